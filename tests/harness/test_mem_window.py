"""`usermode mem` beside a model that takes less than the policy allows."""

from __future__ import annotations

import json

import pytest
from journal_double import first_entry
from kernel_double import policy_with

from harness.commands.mem import mem
from harness.events import MessageAdded, WindowLearned
from harness.journal.writer import Journal
from harness.messages import user
from harness.store import Store


@pytest.mark.parametrize(
    ("learned", "limit", "shown"),
    [(6_500, 6_500, "of 6.5k tokens (more was refused), "), (200_000, 9_000, "of 9.0k tokens, ")],
)
async def test_the_limit_shown_is_the_one_in_force(tmp_path, monkeypatch, capsys, learned, limit, shown):
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    journal = Journal.create(Store(tmp_path / "home").new_session())
    await journal.append(first_entry("s", policy=policy_with(context_tokens=9_000)))
    await journal.append(MessageAdded(message=user("go")))
    await journal.append(WindowLearned(tokens=learned))
    journal.close()
    mem("last", everything=False, json=False)
    assert shown in capsys.readouterr().out
    mem("last", everything=False, json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["limit"] == limit
