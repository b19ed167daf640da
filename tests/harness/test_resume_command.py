"""`usermode resume`: a chat is gone on with as a chat, where its user is there to talk."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from journal_double import first_entry

from harness.commands import chat, resume
from harness.events import MessageAdded
from harness.journal.writer import Journal
from harness.messages import Message, Text, Usage, user
from harness.store import Store

AS_A_RUN = 77


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def left_between_turns(home: Path, task: str) -> str:
    """A session whose model has answered, and whose process is gone."""
    directory = Store(home).new_session()
    answered = Message(role="assistant", parts=(Text(text="hello"),))
    journal = Journal.create(directory)
    said = [
        first_entry(directory.name, task),
        MessageAdded(message=user("hi")),
        MessageAdded(message=answered, usage=Usage()),
    ]
    asyncio.run(journal.append_many(said))
    journal.close()
    return directory.name


@pytest.fixture
def chats(tmp_path, monkeypatch) -> list[str]:
    """The sessions that were gone on with as chats."""
    found: list[str] = []
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path))
    monkeypatch.setattr(resume, "attended", lambda start, json: AS_A_RUN)
    monkeypatch.setattr(chat, "resume", lambda session, model, **rest: found.append(session) or 0)
    return found


def at_a_terminal(monkeypatch) -> None:
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{name}", Terminal())


def test_a_chat_waits_for_its_user_again(tmp_path, monkeypatch, chats):
    name = left_between_turns(tmp_path, "")
    at_a_terminal(monkeypatch)
    assert resume.resume("last", "", "", base_url=None, json=False) == 0
    assert chats == [name]


@pytest.mark.parametrize(
    ("task", "message", "terminal", "json"),
    [
        ("fix it", "", True, False),
        ("", "and now?", True, False),
        ("", "", False, False),
        ("", "", True, True),
    ],
)
def test_anything_else_goes_on_to_its_end(tmp_path, monkeypatch, chats, task, message, terminal, json):
    left_between_turns(tmp_path, task)
    if terminal:
        at_a_terminal(monkeypatch)
    assert resume.resume("last", message, "", base_url=None, json=json) == AS_A_RUN
    assert chats == []
