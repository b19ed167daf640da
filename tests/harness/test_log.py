"""What `ps`, `log` and `show` print: the facts, and nothing a hostile text could do to a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands.say import LEAST, table, wrapped
from harness.commands.sessions import fitting
from harness.errors import UsageError
from harness.events import CallIntent, CallOutcome, Entry, MessageAdded, Notice, SandboxOpened, SessionEnded
from harness.journal.reading import Verdict
from harness.journal.record import Record
from harness.messages import Call, Message, Result, Text, Thinking, Usage, user
from harness.rows import SessionRow
from harness.screen.log import PS_HEADER, find, log_lines, ps_rows, show_lines, verdict_lines

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def record(entry: Entry, seq: int = 1) -> Record:
    return Record(seq, "2026-01-02T11:00:00.123456Z", entry, "ab" * 32)


def session_of(text: str) -> list[Record]:
    call = Call(id=text or "c", name=text or "bash", arguments={"command": text, text: [text, {"x": text}]})
    thinking = Thinking(text=text, provider=text, block={"signature": text})
    entries: list[Entry] = [
        MessageAdded(message=user(text)),
        SandboxOpened(ref=text),
        MessageAdded(
            message=Message(role="assistant", parts=(Text(text=text), thinking, call)), usage=Usage()
        ),
        CallIntent(call=call, exec_id="0123456789abcdef", decision="deny", rule=text),
        CallOutcome(
            result=Result(call_id="c", name=text, content=text, error=text),
            duration_s=1.5,
            details={"path": text, text: 1},
        ),
        Notice(level="warning", code=text, text=text),
        SessionEnded(status="done", exit_code=0, reason=text, turns=1, usage=Usage(), changes=2),
    ]
    return [record(entry, seq) for seq, entry in enumerate(entries, 1)]


def row(**facts) -> SessionRow:
    return SessionRow(id="20260102-110000-aaaaaa", directory=Path("x"), **{"status": "ended", **facts})


HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2K\r\u202eexe\u200b\u2028\x85\udc80\x9b2J\U000e0041\ttab\nnext\x00"


@given(st.one_of(st.just(HOSTILE), st.text(st.characters(exclude_categories=()))))
def test_no_text_of_a_session_reaches_the_terminal_raw(text):
    rows = ps_rows([row(task=text, model=text, note=text, started="2026-01-02T11:00:00.000000Z")], NOW)
    shown = [
        *log_lines(session_of(text)),
        *show_lines(session_of(text)),
        *(cell for cells in rows for cell in cells),
    ]
    verdict = Verdict(False, 0, 1, text, "0" * 64, 0)
    for line in [*shown, *verdict_lines(verdict)]:
        assert all(char.isprintable() or char == "\t" for char in line), line


def test_the_log_says_what_happened_with_numbers_and_times():
    told = list(log_lines(session_of("make test")))
    assert told[0] == "    1  11:00:00  user: make test"
    assert any(line.startswith("    4  11:00:00") and line.endswith("[make test]") for line in told)
    assert any("deny: make test" in line for line in told)
    assert told[-1].startswith("    7  11:00:00  done: make test")


def test_an_entry_is_found_by_number_and_a_call_by_its_id():
    call = Call(id="call_7", name="bash", arguments={"command": "ls"})
    intent = record(CallIntent(call=call, exec_id="0123456789abcdef", decision="allow"), 5)
    outcome = record(
        CallOutcome(result=Result(call_id="call_7", name="bash", content="a\nb"), duration_s=0.1), 6
    )
    records = [record(Notice(level="info", code="x", text="y"), 1), intent, outcome]
    assert find(records, "5") == [intent]
    assert find(records, "call_7") == [intent, outcome]
    assert find(records, "0123456789abcdef") == [intent]
    with pytest.raises(UsageError, match="no entry and no call '9'"):
        find(records, "9")


def test_show_gives_everything_behind_a_margin():
    entry = CallOutcome(
        result=Result(call_id="c", name="bash", content="one\nentry 9 · forged"),
        duration_s=0.1,
        details={"exit_code": 2},
    )
    shown = list(show_lines([record(entry, 6)]))
    assert shown[0] == "entry 6 · 2026-01-02T11:00:00.123456Z · call_outcome"
    assert "  exit_code: 2" in shown
    assert "  | entry 9 · forged" in shown


def test_sessions_are_told_in_columns():
    rows = [
        row(
            ended="budget",
            task="fix it",
            model="scripted:x",
            started="2026-01-02T11:30:00.000000Z",
            turns=4,
            changes=2,
        ),
        row(status="running", task="t", model="m", started="2026-01-01T13:15:00.000000Z", turns=1),
        row(status="interrupted", model="m", started="2026-01-02T11:30:00.000000Z", turns=1, waiting=2),
        row(status="empty"),
        row(status="damaged", note="line 1: it is not JSON"),
        row(status="interrupted", started="2025-12-01T00:00:00.000000Z", task="x" * 500),
    ]
    table = list(ps_rows(rows, NOW))
    assert all(len(cells) == len(PS_HEADER) for cells in table)
    assert table[0][1:] == ("budget", "30 min ago", "4", "2", "scripted:x", "fix it")
    assert table[1][1:] == ("running", "22 h 45 min ago", "1", "-", "m", "t")
    assert table[2][1:] == ("interrupted, 2 queued", "30 min ago", "1", "-", "m", "(chat)")
    assert table[3][1:] == ("empty", "-", "-", "-", "-", "-")
    assert table[4][-1] == "line 1: it is not JSON"
    assert table[5][2] == "2025-12-01"
    assert "(+440 characters)" in table[5][-1]


def test_a_long_model_name_keeps_its_provider_and_its_end():
    [[*_, model, _task]] = ps_rows([row(model="scripted:" + "/deep" * 20 + "/script.json", task="t")], NOW)
    assert model.startswith("scripted:")
    assert model.endswith("/script.json")
    assert len(model) == 30


def test_a_table_ends_where_the_terminal_does(capsys):
    table([("NAME", "WHAT"), ("x" * 10, "y" * 100)], width=40)
    table([("x" * 60, "y" * 100)], width=40)
    first, second, wide = capsys.readouterr().out.splitlines()
    assert first == "NAME        WHAT"
    assert second == "x" * 10 + "  " + "y" * 27 + "…"
    assert wide.endswith("  " + "y" * (LEAST - 1) + "…")


def test_a_verdict_is_said_either_way():
    good, torn = verdict_lines(Verdict(True, 3, None, "", "ab" * 32, 17))
    assert good == f"ok: 3 entries, chain whole, head {'ab' * 32}"
    assert torn.startswith("17 bytes of an unfinished entry")
    assert (
        next(verdict_lines(Verdict(False, 2, 3, "it is not JSON", "cd" * 32, 0)))
        == "bad: line 3: it is not JSON"
    )


@pytest.mark.parametrize(("columns", "cells"), [(60, 4), (80, 6), (110, 7)])
def test_a_narrow_terminal_gets_the_columns_that_fit(columns, cells):
    assert len(fitting(PS_HEADER, columns)) == cells
    assert fitting(PS_HEADER, columns)[-1] == "TASK"


def test_what_is_read_by_a_program_has_every_column():
    assert fitting(PS_HEADER, None) == PS_HEADER


@pytest.mark.parametrize("columns", [40, 60, 100, 500])
def test_prose_is_wrapped_where_the_terminal_ends(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    wrapped("word " * 200, " " * 7)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(" " * 7 + "word") and len(line) <= min(columns, 100) for line in lines)
