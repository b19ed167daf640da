"""Boot: a session from its first to its last journal entry, and every way it can end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from boot_double import Started
from kernel_double import bash, calls

from harness.boot.start import run
from harness.errors import JournalError, UsageError
from harness.events import SessionEnded, SessionStarted, WorkspaceCopied
from harness.journal.reading import verify
from harness.journal.writer import Journal
from harness.provider import ProviderError
from policies import PolicyError, load
from policies.schema import Limits
from sandbox.errors import EngineMissing, ImageMissing, SandboxGone
from sandbox.memory import MemorySandbox


@pytest.fixture
def started(tmp_path):
    return Started(tmp_path)


async def test_a_session_runs_and_its_journal_tells_it_from_start_to_end(started):
    started.says(calls(bash("echo hi"), text="Look."), "Done.")
    ended = await started.run()
    assert (ended.status, ended.exit_code, ended.turns, ended.changes) == ("done", 0, 2, 7)
    kinds = [entry.kind for entry in started.journal]
    assert kinds == [
        "session_started",
        "sandbox_opened",
        "workspace_copied",
        "message",
        "message",
        "call_intent",
        "call_outcome",
        "message",
        "session_ended",
    ]
    assert verify(started.sessions[0].directory).ok
    assert started.journal[-1] == ended == started.events[-1]
    assert [event for event in started.events if event.kind in kinds] == started.journal


async def test_the_first_entry_says_what_was_started(started):
    started.says("Done.")
    await started.run(image="usermode/dev")
    first = started.journal[0]
    assert isinstance(first, SessionStarted)
    assert (first.task, first.image, first.runtime) == ("mend it", "usermode/dev", "runc")
    assert first.image_digest.startswith("sha256:")
    assert first.policy["name"] == "strict"
    assert first.workspace == str(started.workspace)
    spec = started.machine.opened[0]
    assert spec.state == started.sessions[0].directory
    assert spec.session == first.session


async def test_without_a_workspace_nothing_is_copied_and_nothing_counted(started):
    started.says("Done.")
    assert (await started.run(workspace=None)).changes == 0
    assert not any(isinstance(entry, WorkspaceCopied) for entry in started.journal)


@pytest.mark.parametrize(
    ("replies", "status", "code"),
    [
        (["Done."], "done", 0),
        ([{"text": "no", "stop": "refusal"}], "failed", 1),
        ([calls(bash("make"))] * 9, "failed", 1),
        ([calls(bash("echo 1")), calls(bash("echo 2")), "Done."], "budget", 4),
        ([calls(bash("echo 1"))], "provider", 5),
    ],
)
async def test_every_end_has_its_status_and_exit_code(started, replies, status, code):
    started.says(*replies)
    policy = load("strict")
    if status == "budget":
        policy = policy.model_copy(update={"limits": Limits(turns=2)})
    ended = await started.run(policy=policy)
    assert (ended.status, ended.exit_code) == (status, code)
    assert isinstance(started.journal[-1], SessionEnded)
    assert started.machine.closed == 1


async def test_a_sandbox_that_cannot_be_had_ends_the_session_as_the_sandboxs_fault(started):
    started.says("Done.")
    started.machine.fault = SandboxGone("it ended while it started")
    ended = await started.run()
    assert (ended.status, ended.exit_code) == ("sandbox", 6)
    assert "while it started" in ended.reason


async def test_a_sandbox_that_dies_while_it_works_is_never_the_models_failure(started):
    started.says(calls(bash("die")), "Done.")

    async def die(process):
        await asyncio.shield(asyncio.ensure_future(started.machine.box.close()))
        return 0

    started.machine.box = MemorySandbox(files={"/workspace/.keep": ""}, commands={"die": die})
    ended = await started.run()
    assert (ended.status, ended.exit_code) == ("sandbox", 6)
    assert started.journal[-2].result.error == "sandbox_gone"


async def test_a_failing_journal_stops_the_session_before_the_next_effect(started, monkeypatch):
    started.says(calls(("write", {"path": "a", "content": "x"})), "Done.")
    plain = Journal.append_many

    async def full(self, entries, *told):
        if any(entry.kind == "call_intent" for entry in entries):
            raise JournalError("no space is left", code="disk_full")
        return await plain(self, entries, *told)

    monkeypatch.setattr(Journal, "append_many", full)
    closed = MemorySandbox.close
    seen = []

    async def close(self):
        seen.append(sorted(entry.path for entry in await self.list_dir("/workspace")))
        await closed(self)

    monkeypatch.setattr(MemorySandbox, "close", close)
    ended = await started.run()
    assert (ended.status, ended.exit_code) == ("journal", 7)
    assert seen[0] == ["/workspace/.keep"]


async def test_an_end_that_cannot_be_written_is_told_all_the_same(started, monkeypatch):
    started.says("Done.")
    plain = Journal.append_many

    async def full(self, entries, *told):
        if any(isinstance(entry, SessionEnded) for entry in entries):
            raise JournalError("no space is left", code="disk_full")
        return await plain(self, entries, *told)

    monkeypatch.setattr(Journal, "append_many", full)
    ended = await started.run()
    assert (ended.status, ended.exit_code) == ("journal", 7)
    assert started.events[-1] == ended


async def test_what_is_wrong_with_the_request_leaves_no_session_behind(started):
    started.says("Done.")
    wrong = [
        ({"model": "scripted:/nonexistent/script"}, UsageError),
        ({"model": "nobody:model"}, UsageError),
        ({"image": "absent"}, ImageMissing),
    ]
    for changed, error in wrong:
        with pytest.raises(error):
            await started.run(**changed)
    assert started.sessions == []


async def test_a_missing_engine_leaves_no_session_behind(started):
    started.says("Done.")

    @asynccontextmanager
    async def nothing():
        raise EngineMissing("no engine answers; `make engine`")
        yield

    with pytest.raises(EngineMissing):
        await run(started.options(), started.events.append, started.interrupt, machine=nothing)
    assert started.sessions == []


async def test_a_cost_limit_needs_a_known_price(started, monkeypatch):
    started.says("Done.")
    monkeypatch.setattr("harness.boot.parts.cost_usd", lambda model, usage: None)
    policy = load("strict").model_copy(update={"limits": Limits(cost_usd=1)})
    with pytest.raises(UsageError, match="price of scripted"):
        await started.run(policy=policy)
    assert (await started.run()).status == "done"


async def test_a_projects_own_policy_tightens_and_never_loosens(started):
    started.says(calls(("write", {"path": "a", "content": "x"})), "Done.")
    (started.workspace / ".usermode.toml").write_text(
        "[limits]\nturns = 100000\ntokens = 77\n"
        '[[rules]]\nsyscall = "write"\naction = "deny"\nreason = "Read only."\n'
        '[[rules]]\nsyscall = "read"\naction = "allow"\nreason = "Please."\n'
    )
    await started.run()
    limits = started.journal[0].policy["limits"]
    assert (limits["tokens"], limits["turns"]) == (77, load("strict").limits.turns)
    outcome = next(entry for entry in started.journal if entry.kind == "call_outcome")
    assert outcome.result.error == "denied"
    ignored = [entry.text for entry in started.journal if entry.kind == "notice" and entry.code == "policy"]
    assert len(ignored) == 2


async def test_a_malformed_project_policy_starts_nothing(started):
    started.says("Done.")
    (started.workspace / ".usermode.toml").write_text("[limits]\ntruns = 1\n")
    with pytest.raises(PolicyError, match="truns"):
        await started.run()
    assert started.sessions == []


async def test_the_hosts_secrets_are_neither_written_nor_told(started, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery-staple")
    started.says(
        calls(bash("echo correct-horse-battery-staple"), text="It is correct-horse-battery-staple."), "Done."
    )
    await started.run()
    assert "correct-horse" not in repr(started.events)
    assert "correct-horse" not in (started.sessions[0].directory / "journal.jsonl").read_text()


async def test_an_interrupt_ends_the_session_and_keeps_its_changes(started):
    started.says(calls(bash("touch marker; sleep 60")), "Done.")
    session = asyncio.create_task(started.run())
    await _until(started, "marker")
    started.interrupt.cancel_turn()
    ended = await session
    assert (ended.status, ended.exit_code, ended.changes) == ("interrupted", 130, 7)
    assert started.machine.closed == 1


async def test_an_interrupt_before_the_sandbox_is_open_opens_none(started):
    started.says("Done.")
    started.interrupt.cancel_turn()
    assert (await started.run()).status == "interrupted"
    assert started.machine.opened == []


async def test_an_interrupt_while_the_sandbox_opens_undoes_it(started):
    started.says("Done.")
    opening = asyncio.Event()
    undone = []

    @asynccontextmanager
    async def slow(spec):
        try:
            opening.set()
            await asyncio.sleep(3600)
            yield
        finally:
            undone.append(True)

    started.machine.open = slow
    session = asyncio.create_task(started.run())
    await opening.wait()
    started.interrupt.cancel_turn()
    assert (await session).status == "interrupted"
    assert undone == [True]


async def test_leaving_at_once_closes_the_sandbox_and_says_so_in_the_journal(started):
    started.says(calls(bash("touch marker; sleep 60")), "Done.")
    session = asyncio.create_task(started.run())
    await _until(started, "marker")
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session
    last = started.journal[-1]
    assert isinstance(last, SessionEnded)
    assert (last.status, last.exit_code) == ("killed", 130)
    assert started.machine.closed == 1


async def test_a_fault_of_our_own_is_raised_and_recorded(started, monkeypatch):
    started.says("Done.")
    monkeypatch.setattr("harness.boot.live.system_prompt", lambda policy: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await started.run()
    assert "ZeroDivisionError" in started.journal[-1].reason
    assert started.journal[-1].exit_code == 70


async def test_a_provider_that_cannot_be_opened_is_told_before_anything_is_made(started, monkeypatch):
    def refuse(name, *, base_url=None):
        raise ProviderError("auth", "set THE_KEY")

    monkeypatch.setattr("harness.boot.start.open_provider", refuse)
    with pytest.raises(ProviderError, match="THE_KEY"):
        await started.run()
    assert started.sessions == []


async def _until(started, name):
    while True:
        try:
            await started.machine.box.stat(f"/workspace/{name}")
            return
        except FileNotFoundError:
            await asyncio.sleep(0.01)


async def test_a_workspace_that_holds_the_records_of_sessions_is_refused(started):
    started.says("Done.")
    for workspace in (started.home, started.home.parent):
        with pytest.raises(UsageError, match="own sessions"):
            await started.run(workspace=workspace)
    assert not started.home.exists()
