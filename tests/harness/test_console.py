"""The screen: what is shown while a session runs, on a terminal of any size and without one."""

from __future__ import annotations

import io
import os
import pty
import re

import pytest

from harness.events import (
    BudgetChanged,
    CallIntent,
    CallOutcome,
    CallOutput,
    CallStarted,
    Event,
    MessageAdded,
    Notice,
    SandboxOpened,
    SessionEnded,
    TextStreamed,
    WorkspaceCopied,
)
from harness.messages import Call, Message, Result, Text, Usage
from harness.screen.console import LiveView, PlainView, is_live, open_view

HOSTILE = "a\x1b]0;title\x07\x1b]52;c;AAAA\x07\x1b[2J\x9b31m\u202egpj.exe\u200b\r[bold red]x[/]"
OURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""The only sequences a view itself may write: cursor movement and colours."""


def said(text: str) -> MessageAdded:
    return MessageAdded(message=Message(role="assistant", parts=(Text(text=text),)))


def bash(command: str, call_id: str = "1") -> Call:
    return Call(id=call_id, name="bash", arguments={"command": command})


def everything(hostile: str) -> list[Event]:
    """One of each event that carries a model's or a guest's words."""
    call = Call(id="1", name=hostile, arguments={hostile: hostile})
    return [
        WorkspaceCopied(files=1, bytes=1, excluded=(f"{hostile}: key",), excluded_total=1),
        TextStreamed(text=hostile),
        said(hostile),
        CallStarted(call=call),
        CallIntent(call=call, decision="deny", rule=hostile),
        CallStarted(call=bash(hostile, "2")),
        CallOutput(call_id="2", tail=hostile, total_bytes=4),
        CallOutcome(result=Result(call_id="1", name=hostile, content=hostile, error=hostile), duration_s=1),
        CallOutcome(result=Result(call_id="2", name="bash", content=hostile), duration_s=1),
        Notice(level="warning", code="x", text=hostile),
        SessionEnded(status="failed", exit_code=1, reason=hostile, turns=1, usage=Usage(), changes=0),
    ]


def live(
    size: tuple[int, int] = (80, 24), environ: dict[str, str] | None = None
) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    view = LiveView(out, environ or {}, size=size, clock=lambda: 0.0)
    view(SandboxOpened(ref="1"))
    return view, out


def rows(view: LiveView, size: tuple[int, int]) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=size[0], height=size[1], color_system=None)
    return [
        "".join(part.text for part in line).rstrip() for line in console.render_lines(view.frame(), pad=False)
    ]


def test_plain_view_says_what_happened_without_a_single_control_character() -> None:
    out = io.StringIO()
    view = PlainView(out)
    for event in everything(HOSTILE):
        view(event)
    assert not [char for char in out.getvalue() if char != "\n" and not char.isprintable()]
    assert "[bold red]x[/]" in out.getvalue()


def test_live_view_writes_no_sequence_that_came_from_a_model_or_a_guest() -> None:
    view, out = live()
    for event in everything(HOSTILE):
        view(event)
        assert "\x1b" not in "".join(rows(view, (80, 24)))
    rest = OURS.sub("", out.getvalue())
    assert not [char for char in rest if char not in "\n\r" and not char.isprintable()]
    assert "[bold red]x[/]" in rest


def test_live_view_shows_the_sentence_the_running_calls_and_the_budget() -> None:
    view, _ = live()
    view(TextStreamed(text="Let me look at "))
    view(TextStreamed(text="the tests."))
    view(CallStarted(call=bash("make test")))
    view(CallOutput(call_id="1", tail="one\ntwo\n", total_bytes=2_500))
    view(BudgetChanged(turns=3, tokens=45_600, cost_usd=0.125, elapsed_s=9))
    shown = "\n".join(rows(view, (80, 24)))
    view.close()
    assert "Let me look at the tests." in shown
    assert "$ make test" in shown
    assert "2.5kB" in shown
    assert "| two" in shown
    assert "turn 3 · 45.6k tokens · $0.12" in shown


def test_a_finished_call_leaves_the_live_part_and_stays_above_it() -> None:
    view, out = live()
    view(CallIntent(call=bash("make test"), decision="allow"))
    view(CallOutcome(result=Result(call_id="1", name="bash", content="77 passed"), duration_s=1.5))
    assert "make test" not in "\n".join(rows(view, (80, 24)))
    view.close()
    assert "$ make test" in out.getvalue()
    assert "| 77 passed" in out.getvalue()


@pytest.mark.parametrize("size", [(40, 12), (20, 4), (200, 60)])
def test_the_live_part_fits_the_terminal(size: tuple[int, int]) -> None:
    view, _ = live(size)
    view(TextStreamed(text="word " * 400 + "\nline" * 40))
    for number in range(12):
        view(CallStarted(call=bash("printf '%s' " + "x" * 300, str(number))))
        view(CallOutput(call_id=str(number), tail="y" * 300 + "\nz" * 30, total_bytes=1))
        shown = rows(view, size)
        assert len(shown) < size[1]
        assert max(map(len, shown)) <= size[0]
    view.close()


def test_wide_characters_do_not_overflow_a_row() -> None:
    from rich.cells import cell_len

    view, _ = live((40, 12))
    view(TextStreamed(text="漢字" * 60))
    assert max(map(cell_len, rows(view, (40, 12)))) <= 40
    view.close()


def test_waiting_for_the_sandbox_is_said() -> None:
    view = LiveView(io.StringIO(), {}, size=(80, 24))
    assert "starting the sandbox…" in "\n".join(rows(view, (80, 24)))
    view.close()


def test_no_color_keeps_the_view_and_takes_the_colours_away() -> None:
    view, out = live(environ={"NO_COLOR": "1"})
    view(Notice(level="error", code="x", text="disk full"))
    view.close()
    assert "disk full" in out.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", out.getvalue())


def test_a_pipe_and_a_dumb_terminal_get_plain_lines() -> None:
    assert isinstance(open_view(io.StringIO(), {"TERM": "xterm"}), PlainView)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert is_live(terminal, {"TERM": "xterm-256color"})
        assert not is_live(terminal, {"TERM": "dumb"})
        assert not is_live(terminal, {})
    os.close(ours)


def test_closing_twice_is_fine_and_shows_the_cursor_again() -> None:
    view, out = live()
    view.close()
    view.close()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
