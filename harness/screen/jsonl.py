"""Events for programs: one JSON object a line, `{"v": 1, "kind": …}`, with a published JSON Schema.

The schema in docs/events.schema.json is this module's output:
`python -m harness.screen.jsonl > docs/events.schema.json`.
"""

from __future__ import annotations

import json
from typing import TextIO

from harness.events import EVENT, VERSION, Event
from harness.journal.record import Record
from harness.messages import JsonObject


def encode(event: Event) -> str:
    """One line without its end; ASCII, so that nothing in it can act on a terminal that shows it."""
    return _line({"v": VERSION, **event.model_dump()})


def encode_record(record: Record) -> str:
    """The same of a journal's entry, with its number and time."""
    return _line({"v": VERSION, "seq": record.seq, "ts": record.ts, **record.entry.model_dump()})


def _line(fields: JsonObject) -> str:
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


def schema() -> JsonObject:
    """JSON Schema (2020-12) of one line."""
    generated = EVENT.json_schema(mode="serialization", ref_template="#/$defs/{model}")
    kinds = {
        name: value for name, value in generated["$defs"].items() if "kind" in value.get("properties", {})
    }
    for value in kinds.values():
        value["properties"] = {
            "v": {"const": VERSION, "type": "integer"},
            "seq": {
                "type": "integer",
                "description": "Number in the journal; only in `usermode log --json`.",
            },
            "ts": {"type": "string", "format": "date-time", "description": "As `seq`."},
            **value["properties"],
        }
        value["required"] = [
            "v",
            "kind",
            *(name for name in value.get("required", ()) if name not in {"v", "kind"}),
        ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "usermode events",
        "description": "One line of `usermode run --json` or `usermode log --json`.",
        **generated,
    }


class JsonView:
    """A subscriber that writes each event as it comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        self._out.write(encode(event) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing to put back."""


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
