"""`--json`: one versioned object a line, and the schema that says so."""

from __future__ import annotations

import io
import json
from pathlib import Path

from harness.events import EVENT, Event, SessionEnded, TextStreamed
from harness.messages import Usage
from harness.screen.jsonl import JsonView, encode, schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "events.schema.json"


def test_each_event_is_one_versioned_line_that_reads_back() -> None:
    out = io.StringIO()
    view = JsonView(out)
    events: list[Event] = [
        TextStreamed(text="two\nlines \u2028 \x1b[1m"),
        SessionEnded(status="done", exit_code=0, reason="", turns=1, usage=Usage(), changes=2),
    ]
    for event in events:
        view(event)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    for line, event in zip(lines, events, strict=True):
        fields = json.loads(line)
        assert fields.pop("v") == 1
        assert EVENT.validate_python(fields) == event


def test_a_line_is_harmless_on_a_terminal() -> None:
    line = encode(TextStreamed(text="".join(map(chr, range(0x200))) + "\ud800\u202e"))
    assert line.isprintable()
    assert line.isascii()


def test_the_published_schema_is_the_one_in_force() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema()


def test_the_schema_names_every_kind_and_asks_for_the_version() -> None:
    definitions = schema()["$defs"]
    kinds = {
        value["properties"]["kind"]["const"]
        for value in definitions.values()
        if "kind" in value["properties"]
    }
    assert {"session_started", "call_intent", "call_outcome", "text", "session_ended"} <= kinds
    assert all("v" in value["required"] for value in definitions.values() if "kind" in value["properties"])
