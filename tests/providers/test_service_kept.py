"""A session goes on where it was asked before: what was said to one service reaches no other by itself."""

from __future__ import annotations

import pytest
from services import WIRED
from wire_server import Answer, wire_server

from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.errors import UsageError
from harness.events import Resumed, SessionStarted
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from tests.harness.boot_double import MemoryMachine, Started

KINDS = pytest.mark.parametrize("kind", WIRED)


class Machine(MemoryMachine):
    """Each sandbox is a new one."""

    def open(self, spec):
        return MemoryMachine().open(spec)

    def again(self, spec, ref):
        return self.open(spec)


@pytest.fixture
def session(tmp_path, monkeypatch):
    for wired in WIRED.values():
        monkeypatch.setenv(wired.variable, "a-key")
    started = Started(tmp_path)
    started.machine = Machine()
    return started


async def begun(session, model, url):
    ended = await run(
        session.options(model=model, base_url=url, workspace=None),
        session.events.append,
        Interrupt(),
        machine=session.machine,
    )
    assert ended.status == "done"


async def gone_on(session, model="", url=None):
    options = ResumeOptions("last", "go on", model, base_url=url, home=session.home, watched=False)
    return await resume(options, session.events.append, Interrupt(), machine=session.machine)


def services(session):
    entries = [record.entry for record in read(session.sessions[-1].directory)]
    return [entry.service for entry in entries if isinstance(entry, SessionStarted | Resumed)]


@KINDS
async def test_a_resumed_session_asks_where_it_was_asked_before(session, kind):
    async with wire_server(*[Answer(WIRED[kind].hello)] * 3) as server:
        await begun(session, f"{kind}:m", server.url)
        assert (await gone_on(session)).status == "done"
        # Another model of the same provider, too.
        assert (await gone_on(session, f"{kind}:other")).status == "done"
        assert len(server.asked) == 3
        assert services(session) == [server.url] * 3


async def test_another_place_is_asked_once_it_is_named_and_from_then_on(session):
    hello = Answer(WIRED["openai-chat"].hello)
    async with wire_server(hello) as first, wire_server(hello, hello) as second:
        await begun(session, "openai-chat:m", first.url)
        await gone_on(session, url=second.url)
        await gone_on(session)
        assert (len(first.asked), len(second.asked)) == (1, 2)


async def test_a_place_from_the_environment_is_kept_when_the_environment_changed(session, monkeypatch):
    hello = Answer(WIRED["openai"].hello)
    async with wire_server(hello, hello) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        await begun(session, "openai:m", None)
        monkeypatch.delenv("OPENAI_BASE_URL")
        await gone_on(session)
        assert len(server.asked) == 2


async def test_another_provider_is_not_asked_there(session):
    chat, claude = Answer(WIRED["openai-chat"].hello), Answer(WIRED["anthropic"].hello)
    async with wire_server(chat) as first, wire_server(claude) as second:
        await begun(session, "openai-chat:m", first.url)
        await gone_on(session, "anthropic:m", second.url)
        assert services(session) == [first.url, second.url]


async def test_a_url_with_a_password_is_refused_before_anything_is_written(session):
    with pytest.raises(UsageError, match="holds a name or a password"):
        await begun(session, "openai-chat:m", "http://me:word@127.0.0.1:1/v1")
    assert session.sessions == []
