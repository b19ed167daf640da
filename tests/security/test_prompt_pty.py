"""The approval prompt on a real terminal: what counts is whether anything was granted."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from harness.approvals.petition import Petition, Reply, Scope
from harness.screen.approval_keys import ARM_S
from harness.screen.approval_prompt import TerminalPrompter

MARK = "4f2a"
ALL: tuple[Scope, ...] = ("once", "session", "minutes", "always")
OURS = re.compile(r"\x1b\[\?(?:1049|7|25|2004)[hl]|\x1b\[2J\x1b\[H")
"""All the sequences that a prompt writes."""
HOSTILE = (
    "ls\x1b[2K\x1b[1A\x1b]0;title\x07\x9b31m\u202egpj\u200b\r\n4f2a | in  /safe\x1b[?1049l"
    + " " * 5000
    + "; rm x"
)


def about(command: str = "make install", said: str = "it is needed", name: str = "a1") -> Petition:
    return Petition(
        "root", command, (("command", command), ("in", "/workspace")), said, {}, offers=ALL, name=name
    )


class Terminal:
    """The user's side of a terminal, and how far the rest of the session may write to it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.seen = ""
        self.stage: list[str] = []
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError, OSError):
            self.seen += os.read(self._master, 1 << 16).decode()

    def pause(self) -> None:
        self.stage.append("pause")

    def resume(self) -> None:
        self.stage.append("resume")

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def shows(self, text: str, *, since: int = 0) -> None:
        async with asyncio.timeout(60):
            while text not in self.seen[since:]:
                await asyncio.sleep(0.01)

    @property
    def screen(self) -> list[str]:
        """The rows that stand on it since it was last cleared."""
        return self.seen.rpartition("\x1b[2J\x1b[H")[2].replace("\r", "").split("\n")


@asynccontextmanager
async def terminal(
    columns: int = 80, rows: int = 24, term: str = "xterm"
) -> AsyncIterator[tuple[Terminal, TerminalPrompter]]:
    master, slave = pty.openpty()
    user = Terminal(master)
    user.resize(columns, rows)
    with os.fdopen(os.dup(slave), "w", encoding="utf-8") as out:
        before = termios.tcgetattr(slave)
        yield user, TerminalPrompter(slave, out, user, MARK, environ={"TERM": term})
        assert termios.tcgetattr(slave) == before
    asyncio.get_running_loop().remove_reader(master)
    with suppress(OSError):
        os.close(master)
    os.close(slave)


async def armed(user: Terminal, name: str = "a1") -> None:
    await user.shows(f"asks, {name}")
    await asyncio.sleep(ARM_S + 0.1)


async def unanswered(asking: asyncio.Task[Reply]) -> None:
    """It still stands; then the user says no."""
    await asyncio.sleep(0.4)
    assert not asking.done()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()


async def test_a_deliberate_key_grants_once_and_the_terminal_is_as_before() -> None:
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await armed(user)
        shown = "\n".join(user.screen)
        assert "4f2a | command     make install" in shown
        assert shown.index("make install") < shown.index("it is needed")
        user.type(b"y")
        assert await asking == Reply(True, "once")
        assert user.stage == ["pause", "resume"]


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("typed", [b"y\n", b"y", b"\n", b"s", b"yes\nyes\n"])
async def test_what_was_typed_ahead_answers_nothing(typed: bytes, term: str) -> None:  # D09
    async with terminal(term=term) as (user, prompter):
        user.type(typed)
        await asyncio.sleep(0.05)
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await user.shows("asks, a1")
        user.type(typed)
        await unanswered(asking)


@pytest.mark.parametrize("typed", [b"\r", b"\n", b"\x03", b"\x04", b"\x1b", b"n"])
async def test_enter_and_what_ends_programs_are_no(typed: bytes) -> None:  # D09
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await armed(user)
        user.type(typed)
        assert await asking == Reply(False)


async def test_a_paste_answers_nothing() -> None:  # D09
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await armed(user)
        assert "\x1b[?2004h" in user.seen
        for pasted in (b"\x1b[200~y\n\x1b[201~", b"y\ny\n"):
            user.type(pasted)
            await asyncio.sleep(ARM_S + 0.1)
        await unanswered(asking)


async def test_the_end_of_input_is_no() -> None:  # D14
    master, slave = pty.openpty()
    user = Terminal(master)
    with os.fdopen(os.dup(slave), "w") as out:
        prompter = TerminalPrompter(slave, out, user, MARK, environ={"TERM": "xterm"})
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await armed(user)
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        assert await asking == Reply(False)
        os.close(slave)
        with suppress(OSError):
            out.close()


async def test_what_is_no_terminal_grants_nothing() -> None:  # D14
    reading, writing = os.pipe()
    out = io.StringIO()

    class Quiet:
        def pause(self) -> None: ...
        def resume(self) -> None: ...

    prompter = TerminalPrompter(reading, out, Quiet(), MARK, environ={"TERM": "xterm"})
    os.write(writing, b"yyyy")
    with pytest.raises(termios.error):
        await prompter.ask(about(), deadline_s=60)
    os.close(reading)
    os.close(writing)


async def test_two_questions_stand_one_after_the_other_each_with_a_wait_of_its_own() -> None:  # D09
    async with terminal() as (user, prompter):
        first = asyncio.create_task(prompter.ask(about("first"), deadline_s=60))
        second = asyncio.create_task(prompter.ask(about("second", name="a2"), deadline_s=60))
        await armed(user)
        assert "a2" not in user.seen
        assert "second" not in user.seen
        user.type(b"y")
        assert await first == Reply(True, "once")
        await user.shows("asks, a2")
        user.type(b"y")  # meant for the first
        await asyncio.sleep(0.3)
        assert not second.done()
        await asyncio.sleep(ARM_S)
        user.type(b"\n")
        assert await second == Reply(False)
        assert user.stage == ["pause", "resume"] * 2


async def test_a_question_answered_elsewhere_leaves_the_screen_and_the_next_one_comes() -> None:
    async with terminal() as (user, prompter):
        first = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        second = asyncio.create_task(prompter.ask(about(name="a2"), deadline_s=60))
        await armed(user)
        first.cancel()
        await user.shows("question a1 is gone: answered elsewhere, or its time is over")
        assert user.seen.index("\x1b[?1049l") < user.seen.index("is gone")
        await armed(user, "a2")
        user.type(b"y")
        assert await second == Reply(True, "once")


async def test_a_question_cancelled_while_it_waits_is_never_shown() -> None:
    async with terminal() as (user, prompter):
        first = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        second = asyncio.create_task(prompter.ask(about("second", name="a2"), deadline_s=60))
        await armed(user)
        second.cancel()
        await asyncio.sleep(0)
        user.type(b"\n")
        assert await first == Reply(False)
        assert "second" not in user.seen


async def test_a_resize_draws_it_anew_and_a_key_that_comes_with_it_does_not_count() -> None:
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about("echo " + "word " * 40), deadline_s=60))
        await armed(user)
        size = len(user.seen)
        user.resize(40, 12)
        await user.shows("asks, a1", since=size)
        user.type(b"y")
        await asyncio.sleep(0.3)
        assert not asking.done()
        await asyncio.sleep(ARM_S)
        assert max(map(len, user.screen)) <= 40
        assert len(user.screen) <= 12
        user.type(b"y")
        assert await asking == Reply(True, "once")


async def test_on_a_terminal_too_small_to_show_it_nothing_can_be_granted() -> None:
    async with terminal(20, 5) as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await user.shows("too small")
        await asyncio.sleep(ARM_S + 0.1)
        user.type(b"y")
        await asyncio.sleep(0.4)
        assert not asking.done()
        user.type(b"\x03")
        assert await asking == Reply(False)


@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (80, 24), (200, 50)])
async def test_a_long_question_is_remembered_only_once_its_end_was_seen(
    columns: int, rows: int
) -> None:  # D06
    command = "".join(f"echo {number};" for number in range(1500)) + "rm -rf x"
    async with terminal(columns, rows) as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(command), deadline_s=60))
        await armed(user)
        body = "".join(row.partition("| ")[2].lstrip(" :") for row in user.screen)
        assert "rm -rf x" in body
        assert "for the session" not in user.seen
        user.type(b"s")
        await asyncio.sleep(ARM_S + 0.1)
        user.type(b"G")
        await user.shows("for the session")
        assert max(map(len, user.screen)) <= columns
        assert len(user.screen) <= rows
        user.type(b"s")
        await user.shows("y confirms")
        user.type(b"y")
        assert await asking == Reply(True, "session")


async def test_what_hides_is_granted_once_at_the_most() -> None:  # D04
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about("ls \u202e"), deadline_s=60))
        await armed(user)
        assert "does not show itself" in "".join(user.screen)
        user.type(b"a")
        await asyncio.sleep(ARM_S + 0.1)
        user.type(b"y")
        assert await asking == Reply(True, "once")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize(("columns", "rows"), [(40, 12), (80, 24)])
async def test_no_byte_of_a_petition_acts_on_the_terminal(
    columns: int, rows: int, term: str
) -> None:  # D01 D03 D08
    hostile = Petition(
        "network", HOSTILE, (("host", HOSTILE), (HOSTILE, "x")), HOSTILE, {}, offers=ALL, name="a1"
    )
    async with terminal(columns, rows, term) as (user, prompter):
        asking = asyncio.create_task(prompter.ask(hostile, deadline_s=60))
        await armed(user)
        for _ in range(4):
            user.type(b" ")
            await asyncio.sleep(0.1)
        user.type(b"n")
        assert await asking == Reply(False)
        rest = OURS.sub("", user.seen)
        assert not [char for char in rest if char not in "\r\n" and not char.isprintable()]
        drawn = [row for row in rest.replace("\r", "").split("\n") if row]
        assert all(row.startswith(MARK) for row in drawn)
        assert not [row for row in drawn if re.match(r"4f2a \| in\b", row)]
        if term == "dumb":
            assert "\x1b" not in user.seen


async def test_a_session_that_ends_puts_the_terminal_back() -> None:
    async with terminal() as (user, prompter):
        asking = asyncio.create_task(prompter.ask(about(), deadline_s=60))
        await armed(user)
        await unanswered(asking)
        assert user.stage == ["pause", "resume"]
        await user.shows("\x1b[?1049l")
        await user.shows("\x1b[?2004l")
