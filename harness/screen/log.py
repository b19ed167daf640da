"""What `ps`, `log`, `show` and `verify` say, as plain text: no colour, nothing that acts on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

from harness.errors import UsageError
from harness.events import CallIntent, CallOutcome, MessageAdded
from harness.journal.reading import Verdict
from harness.journal.record import Record
from harness.messages import Result, Text, Thinking
from harness.rows import SessionRow
from harness.screen.lines import lines
from harness.visible import visible
from harness.words import bounded, duration

PS_HEADER = ("SESSION", "STATUS", "STARTED", "TURNS", "CHANGES", "MODEL", "TASK")
_TASK_CHARS = 60
_MODEL_CHARS = 30


def ps_rows(rows: Iterable[SessionRow], now: datetime) -> Iterator[tuple[str, ...]]:
    """Cells of the table of sessions, in the columns of PS_HEADER."""
    for row in rows:
        yield (
            row.id,
            (row.ended or row.status) + (f", {row.waiting} queued" if row.waiting else ""),
            _ago(row.started, now),
            str(row.turns) if row.started else "-",
            "-" if row.changes is None else str(row.changes),
            _short(row.model) or "-",
            bounded(row.note or row.task, _TASK_CHARS) + (f" (child of {row.parent})" if row.parent else "")
            or ("(chat)" if row.model else "-"),
        )


def _short(model: str) -> str:
    """Its provider, and the end of its name: of a script's path that is what tells it from others."""
    shown = bounded(model)
    return shown if len(shown) <= _MODEL_CHARS else f"{shown[:12]}…{shown[13 - _MODEL_CHARS :]}"


def log_lines(records: Iterable[Record]) -> Iterator[str]:
    """A session as it went: what was shown while it ran, with the number and time of each entry."""
    for record in records:
        if isinstance(record.entry, MessageAdded) and record.entry.message.role == "user":
            told = [f"user: {bounded(line)}" for line in record.entry.message.text.splitlines()]
        else:
            told = [line.text for line in lines(record.entry)]
        if isinstance(record.entry, CallIntent):
            told = [
                f"{line}  [{bounded(record.entry.call.id, 60)}]" if not n else line
                for n, line in enumerate(told)
            ]
        margin = f"{record.seq:>5}  {record.ts[11:19]}  "
        for line in told:
            yield margin + line
            margin = " " * len(margin)


def find(records: Iterable[Record], which: str) -> list[Record]:
    """The entry with this number, or all entries of the call with this id. UsageError when there is none."""
    found = [record for record in records if which == str(record.seq) or which in _call_ids(record)]
    if not found:
        raise UsageError(f"the session has no entry and no call {which!r}; `usermode log` lists them")
    return found


def show_lines(records: Iterable[Record]) -> Iterator[str]:
    """Everything about some entries; text that has lines is shown as lines."""
    for record in records:
        yield f"entry {record.seq} · {record.ts} · {record.entry.kind}"
        yield f"hash {record.hash}"
        match record.entry:
            case MessageAdded(message=message):
                yield from _facts(record.entry.model_dump(exclude={"kind", "message"}))
                for part in message.parts:
                    match part:
                        case Text():
                            yield from _block(message.role, part.text)
                        case Thinking():
                            yield from _block(f"thinking ({part.provider})", part.text)
                        case Result():
                            yield from _result(part)
                        case _:
                            yield from _facts(
                                {"call": part.name, **part.model_dump(exclude={"type", "name"})}
                            )
            case CallIntent(call=call):
                yield from _facts(record.entry.model_dump(exclude={"kind", "call"}))
                yield from _facts({"call": call.name, **call.model_dump(exclude={"type", "name"})})
            case CallOutcome(result=result):
                yield from _facts(record.entry.model_dump(exclude={"kind", "result"}))
                yield from _result(result)
            case entry:
                yield from _facts(entry.model_dump(exclude={"kind"}))
        yield ""


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What `verify` found, good news or bad."""
    if verdict.ok:
        yield f"ok: {verdict.lines} entries, chain whole, head {verdict.head_hash}"
    else:
        yield f"bad: line {verdict.first_bad_line}: {visible(verdict.reason)}"
        yield f"good before it: {verdict.lines} entries, head {verdict.head_hash}"
    if verdict.torn_bytes:
        yield f"{verdict.torn_bytes} bytes of an unfinished entry at the end (a running or killed writer's)"


def _call_ids(record: Record) -> tuple[str, ...]:
    match record.entry:
        case CallIntent(call=call, exec_id=exec_id):
            return (call.id, exec_id) if exec_id else (call.id,)
        case CallOutcome(result=result):
            return (result.call_id,)
    return ()


def _result(result: Result) -> Iterator[str]:
    yield from _facts({"result of": result.name, "call_id": result.call_id, "error": result.error})
    yield from _block("content", result.content)


def _facts(facts: dict[str, object]) -> Iterator[str]:
    """`name: value`, one a line; strings of several lines as blocks, what is None left out."""
    for name, value in facts.items():
        if isinstance(value, str) and "\n" in value:
            yield from _block(name, value)
        elif isinstance(value, str):
            yield f"{visible(name)}: {visible(value)}"
        elif isinstance(value, dict) and value:
            yield f"{visible(name)}:"
            yield from (f"  {line}" for line in _facts(value))
        elif value is not None:
            yield f"{visible(name)}: {visible(json.dumps(value, ensure_ascii=False, default=str))}"


def _block(name: str, text: str) -> Iterator[str]:
    """Text with lines behind a margin, so that it cannot pass for a line of ours."""
    yield f"{visible(name)}:"
    yield from (f"  | {line}" for line in visible(text, multiline=True).split("\n"))


def _ago(started: str, now: datetime) -> str:
    if not started:
        return "-"
    seconds = (now - datetime.fromisoformat(started)).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 86_400:
        # Minutes are enough for hours, whole minutes for minutes.
        return f"{duration(seconds - seconds % 60).removesuffix(' 00 s')} ago"
    return started[:10]
