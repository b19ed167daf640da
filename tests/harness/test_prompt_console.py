"""The screen of a session holds back while a question has the terminal."""

from __future__ import annotations

import io

import pytest

from harness.events import Notice, SandboxOpened, SessionEnded, TextStreamed
from harness.messages import Usage
from harness.screen.console import LiveView, PlainView, Screen


def notice(text: str) -> Notice:
    return Notice(level="info", code="x", text=text)


def ended() -> SessionEnded:
    return SessionEnded(status="done", exit_code=0, reason="", turns=1, usage=Usage(), changes=0)


def screens() -> list[tuple[Screen, io.StringIO]]:
    plain, live = io.StringIO(), io.StringIO()
    return [(PlainView(plain), plain), (LiveView(live, {}, size=(80, 24), clock=lambda: 0.0), live)]


@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_written_while_a_question_stands_and_all_of_it_afterwards(which: int) -> None:
    screen, out = screens()[which]
    screen(SandboxOpened(ref="1"))
    screen(notice("before"))
    screen.pause()
    size = len(out.getvalue())
    screen(notice("during"))
    screen(TextStreamed(text="a sentence"))
    assert out.getvalue()[size:] == ""
    screen.resume()
    assert "during" in out.getvalue()[size:]
    screen(notice("after"))
    assert out.getvalue().index("before") < out.getvalue().index("during") < out.getvalue().index("after")
    screen.close()


def test_a_live_view_that_ends_while_it_holds_back_stays_ended() -> None:
    screen, out = screens()[1]
    screen.pause()
    screen(ended())
    screen.resume()
    size = len(out.getvalue())
    assert "done" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    screen.close()
    assert "\x1b[?25l" not in out.getvalue()[size:]
