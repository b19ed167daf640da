"""The control socket: a second process answers, lists, revokes and connects; nobody else is let in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys

import pytest
from boot_double import Started, asked, asking, usermode
from kernel_double import Says, bash, calls

from harness.control import server as control
from harness.control.client import NotRunning, line_to
from harness.control.server import SOCKET
from harness.errors import UsageError
from harness.events import ApprovalAnswered, ApprovalAsked


@pytest.fixture
def started(tmp_path):
    return Started(tmp_path)


async def finished(session):
    async with asyncio.timeout(20):
        return await session


async def test_another_terminal_lists_a_question_and_answers_it(started):
    started.says(calls(bash("touch marker\u202e; echo \x1b[2Kdone")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    code, out, _ = await usermode(started, "approvals")
    assert code == 0
    assert f"{directory.name} a1: call" in out
    assert "touch marker<U+202E>; echo \\x1b[2Kdone" in out
    assert "\x1b" not in out
    code, out, _ = await usermode(started, "approvals", "--json")
    [question] = [event for event in started.events if isinstance(event, ApprovalAsked)]
    assert json.loads(out)["binding"] == question.binding
    code, out, err = await usermode(started, "approve", "last", "a1")
    assert (code, err) == (0, "")
    assert (await finished(session)).status == "done"
    [answer] = [entry for entry in started.journal if isinstance(entry, ApprovalAnswered)]
    assert (answer.granted, answer.scope, answer.by) == (True, "once", "another terminal")
    assert not (directory / SOCKET).exists()


async def test_a_no_from_another_terminal_ends_the_session_refused(started):
    started.says(calls(bash("touch marker")), "I could not.")
    session = asyncio.create_task(started.run(policy=asking()))
    await asked(started)
    code, _, _ = await usermode(started, "deny", "last", "a1")
    assert code == 0
    ended = await finished(session)
    assert (ended.status, ended.exit_code) == ("refused", 3)
    assert "a1 (call: touch marker) was answered denied" in ended.reason


async def test_a_question_nobody_answers_ends_the_session_refused_in_time(started):
    started.says(calls(bash("touch marker")), "I could not.")
    ended = await finished(started.run(policy=asking(timeout_s=0.1)))
    assert (ended.status, ended.exit_code) == ("refused", 3)
    assert "approval_timeout" in ended.reason


async def test_a_refusal_that_was_made_good_later_is_none(started):
    started.says(calls(bash("touch marker")), calls(bash("touch marker")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    async with line_to(directory) as line:
        await line.ask(op="answer", approval="a1", granted=False)
        while not (await line.ask(op="approvals"))["approvals"]:
            await asyncio.sleep(0.01)
        await line.ask(op="answer", approval="a2", granted=True)
    assert (await finished(session)).status == "done"


async def test_a_grant_is_listed_and_revoked_and_then_asked_about_again(started):
    started.says(*[calls(bash("echo again"))] * 3, "Done.")
    session = asyncio.create_task(started.run(policy=asking(), prompter=Says(3600.0)))
    await asked(started)
    assert (await usermode(started, "approve", "last", "a1", "--minutes", "5"))[0] == 0
    directory = started.sessions[-1].directory
    await finished(session)
    kinds = [entry.kind for entry in started.journal]
    assert kinds.count("approval_asked") == 3
    assert [e.by for e in started.journal if isinstance(e, ApprovalAnswered)][1:] == ["grant g1", "grant g1"]
    with pytest.raises(NotRunning):
        async with line_to(directory):
            pass


@pytest.fixture
async def waiting(started):
    """A session that waits for an answer, and its directory."""
    started.says(calls(bash("echo x")), calls(bash("echo y")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    yield started, await asked(started)
    session.cancel()
    await asyncio.gather(session, return_exceptions=True)


async def test_a_revoked_grant_no_longer_answers(waiting):
    _, directory = waiting
    async with line_to(directory) as line:
        with pytest.raises(UsageError, match="no grant"):
            await line.ask(op="revoke", grant="g1")
        await line.ask(op="answer", approval="a1", granted=True, scope="session")
        while not (grants := (await line.ask(op="grants"))["grants"]):
            await asyncio.sleep(0.01)
        assert grants[0]["scope"] == "session"
        await line.ask(op="revoke", grant="g1")
        assert (await line.ask(op="grants"))["grants"] == []


@pytest.mark.parametrize(
    "said",
    [
        b"hello\n",
        b"[]\n",
        b'{"op": "shutdown"}\n',
        b'{"op": "answer", "approval": "a1", "granted": "yes"}\n',
        b'{"op": "answer", "approval": "a1", "granted": true, "command": "x"}\n',
        b'{"op": "connect", "port": 0}\n',
        b'{"op": "approvals"' + b" " * 300_000 + b"}\n",
        b"\xff\xfe\n",
    ],
)
async def test_what_is_no_request_is_refused_and_changes_nothing(waiting, said):
    _, directory = waiting
    async with line_to(directory) as line:
        line.writer.write(said)
        answer = json.loads(await line.reader.readuntil(b"\n"))
        assert answer["ok"] is False
        assert await line.reader.read() == b""
    async with line_to(directory) as line:
        assert len((await line.ask(op="approvals"))["approvals"]) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"approval": "a9", "granted": True}, "no question"),
        ({"approval": "a1", "granted": True, "scope": "minutes"}, "minutes"),
        ({"approval": "a1", "granted": True, "scope": "minutes", "minutes": 1e9}, "minutes"),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused_and_the_question_waits_on(waiting, answer, why):
    _, directory = waiting
    async with line_to(directory) as line:
        with pytest.raises(UsageError, match=why):
            await line.ask(op="answer", **answer)
        assert len((await line.ask(op="approvals"))["approvals"]) == 1


async def test_the_socket_is_private_and_a_peer_of_another_user_gets_nothing(waiting, monkeypatch):
    _, directory = waiting
    found = (directory / SOCKET).lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    monkeypatch.setattr(control.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(control, "ROOT", 4712)
    async with line_to(directory) as line:
        line.writer.write(b'{"op": "answer", "approval": "a1", "granted": true}\n')
        with contextlib.suppress(ConnectionError):
            assert await line.reader.read() == b""
    monkeypatch.undo()
    async with line_to(directory) as line:
        assert len((await line.ask(op="approvals"))["approvals"]) == 1


async def test_many_silent_peers_keep_nobody_out_for_long(waiting, monkeypatch):
    _, directory = waiting
    monkeypatch.setattr(control, "REQUEST_S", 0.2)
    with control.reachable(directory) as (_, path):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(control.MAX_PEERS + 10)]
        for one in silent:
            one.connect(path)
    await asyncio.sleep(1)
    async with line_to(directory) as line:
        assert (await line.ask(op="approvals"))["ok"]
    for one in silent:
        one.close()


async def test_a_socket_left_behind_is_replaced_and_a_deep_home_is_no_hindrance(tmp_path):
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 6)
    deep.mkdir(parents=True)
    started = Started(deep)
    started.says(calls(bash("echo x")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    assert len(str(directory / SOCKET)) > 108
    async with line_to(directory) as line:
        await line.ask(op="answer", approval="a1", granted=True)
    assert (await finished(session)).status == "done"


async def shout(queue):
    """A program inside that listens, answers in capitals and closes."""
    while True:
        peer = await queue.get()
        while data := await peer.read(1024):
            await peer.write(data.upper())
        peer.shutdown()


async def test_a_port_inside_is_reached_from_here_and_closes_cleanly(started):
    started.says(calls(bash("echo x")), "Done.")
    box = started.machine.box
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    inside = asyncio.create_task(shout(box.network.listen(3000)))
    async with line_to(directory) as line:
        with pytest.raises(UsageError, match="nothing inside listens on port 3001"):
            await line.ask(op="connect", port=3001)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "harness", "port", "last", "3000:0"),
        env={**os.environ, "USERMODE_HOME": str(started.home), "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    said = (await process.stdout.readline()).decode()
    number = int(said.partition("127.0.0.1:")[2].split()[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(b"hello " * 50_000)
    writer.write_eof()
    assert await reader.read() == b"HELLO " * 50_000
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", number)
    writer.close()
    inside.cancel()
    session.cancel()
    await asyncio.gather(session, inside, return_exceptions=True)


async def test_a_terminal_that_still_waits_at_the_end_of_a_session_is_let_go_without_a_word(started):
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    started.says(calls(bash("touch marker")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    async with line_to(directory) as waiting:
        waiting.writer.write(b'{"op": "wait"}\n')
        async with line_to(directory) as line:
            await line.ask(op="answer", approval="a1", granted=True)
        assert (await finished(session)).status == "done"
        assert await waiting.reader.read() == b""
    await asyncio.sleep(0)
    assert faults == []


OTHER_USER = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
try:
    peer.connect(f"/proc/self/fd/{sys.argv[1]}/control")
    peer.sendall(b'{"op": "answer", "approval": "a1", "granted": true}\\n')
    print("said:", peer.recv(100))
except OSError as error:
    print("refused:", type(error).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try it")
@pytest.mark.parametrize("opened_up", [False, True])
async def test_another_user_of_this_machine_cannot_answer(waiting, opened_up):
    """Not past the permissions; and not past the question who it is, should those be wide open."""
    _, directory = waiting
    if opened_up:
        directory.chmod(0o777)
        (directory / SOCKET).chmod(0o777)
    fd = os.open(directory, os.O_RDONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", OTHER_USER, str(fd)),
        pass_fds=[fd],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    os.close(fd)
    directory.chmod(0o700)
    expected = [b"said: b''\n", b"refused: ConnectionResetError\n", b"refused: BrokenPipeError\n"]
    assert out in (expected if opened_up else [b"refused: PermissionError\n"])
    async with line_to(directory) as line:
        assert len((await line.ask(op="approvals"))["approvals"]) == 1
