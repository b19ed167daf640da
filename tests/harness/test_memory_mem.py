"""`usermode mem`: the table of a session's pages, on any terminal."""

from __future__ import annotations

import json

import pytest
from journal_double import first_entry
from kernel_double import bash, calls, policy_with

from harness.commands.mem import load, mem
from harness.events import ForkedFrom, MessageAdded
from harness.journal.writer import Journal
from harness.memory.index import Index
from harness.messages import Usage
from harness.store import Store

NASTY = "\x1b]52;c;eA==\x07\u202ereversed\r"


@pytest.fixture
def sessions(tmp_path, monkeypatch):
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    return Store(tmp_path / "home")


@pytest.fixture
async def session(sessions, make_session):
    """A session that evicted some results, in its journal."""
    policy = policy_with(context_tokens=4_000)
    journal = Journal.create(sessions.new_session())
    await journal.append(first_entry("s", policy=policy))

    async def big(process):
        await process.out(NASTY + f"{process.argv[1]}\n" * 600)
        return 0

    replies = [*(calls(bash(f"big n{number}")) for number in range(10)), "done"]
    run = make_session(
        replies, journal=journal, archive=Index(journal.directory), commands={"big": big}, policy=policy
    )
    await run.turn(NASTY)
    journal.close()
    return run


async def test_the_table_is_that_of_the_session_itself(session, capsys):
    memory = session.session.memory
    memory.assemble(session.session.messages)
    assert mem("last", everything=False, json=True) == 0
    *pages, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [page["state"] for page in pages] == [page.state for page in memory.table.pages]
    assert "evicted" in [page["state"] for page in pages]
    assert (last["tokens"], last["limit"], last["requests"]) == (memory.tokens, 4_000, 11)
    assert last["cost_usd"] == 0.0
    assert last["cache_read_tokens"] == session.session.budget.usage.cache_read_tokens > 0


async def test_it_fits_sixty_columns_and_nothing_in_it_acts_on_a_terminal(session, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    mem("last", everything=True, json=False)
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 60
    assert out.replace("\n", "").isprintable()
    assert "$ big n3" in out
    assert "= bash" in out
    assert "outside: " in out
    assert out.count("pinned") == 1


async def test_only_the_latest_are_shown_unless_all_are_asked_for(session, capsys, monkeypatch):
    monkeypatch.setattr("harness.commands.mem.LATEST", 5)
    mem("last", everything=False, json=False)
    out = capsys.readouterr().out
    assert "p22 " in out
    assert "p17 " not in out
    assert "… and 17 before them; --all shows them" in out


async def test_a_price_that_is_unknown_is_not_zero(sessions):
    journal = Journal.create(sessions.new_session())
    said = {"role": "assistant", "parts": ({"type": "text", "text": "x"},)}
    for cost in (0.5, None, 0.5):
        await journal.append(
            MessageAdded.model_validate({"message": said, "usage": Usage(input_tokens=1), "cost_usd": cost})
        )
    journal.close()
    memory = load(journal.directory)
    assert memory.cost_usd is None
    assert memory.paid("input_tokens") == 3


async def test_a_fork_has_not_paid_for_what_it_was_told(sessions):
    journal = Journal.create(sessions.new_session())
    forked = ForkedFrom(session="s", checkpoint=0, digest="0" * 64, head="0" * 64, entries=1)
    await journal.append(first_entry("s", forked=forked))
    said = {"role": "assistant", "parts": ({"type": "text", "text": "x"},)}
    for tokens in (7, 2):
        used = Usage(input_tokens=tokens)
        await journal.append(
            MessageAdded.model_validate({"message": said, "usage": used, "cost_usd": tokens})
        )
    journal.close()
    memory = load(journal.directory)
    assert (memory.paid("input_tokens"), memory.cost_usd) == (2, 2.0)
    assert len(memory.told.messages) == 2
