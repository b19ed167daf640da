"""Events for programs: one JSON object a line, `{"v": 1, "kind": …}`, with a published JSON Schema.

The schema in docs/events.schema.json is this module's output:
`python -m harness.jsonl > docs/events.schema.json`.
"""

from __future__ import annotations

import json
from typing import TextIO

from harness.events import EVENT, VERSION, Event
from harness.messages import JsonObject


def encode(event: Event) -> str:
    """One line without its end; ASCII, so that nothing in it can act on a terminal that shows it."""
    line = json.dumps({"v": VERSION, **event.model_dump()}, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f")


def schema() -> JsonObject:
    """JSON Schema (2020-12) of one line."""
    generated = EVENT.json_schema(mode="serialization", ref_template="#/$defs/{model}")
    kinds = {
        name: value for name, value in generated["$defs"].items() if "kind" in value.get("properties", {})
    }
    for value in kinds.values():
        value["properties"] = {"v": {"const": VERSION, "type": "integer"}, **value["properties"]}
        value["required"] = [
            "v",
            "kind",
            *(name for name in value.get("required", ()) if name not in {"v", "kind"}),
        ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "usermode events",
        "description": "One line of `usermode run --json`.",
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
