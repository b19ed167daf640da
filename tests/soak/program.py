"""What a session of the soak does: a scripted model whose effects count themselves inside the guest.

Every effect leaves a line of its own in a file of the workspace. As many of that line as there are in the
end, so often it happened.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

STEPS = 14
RAN = "ran"
LIST = "list"
SEED_FILES = {LIST: "end\n", "notes": "nothing\n" * 50}
KINDS = ("quick", "begun", "late", "two", "job", "edit", "write", "look")
WAIT = "for _ in $(seq 40); do grep -qsx {line} ran && break; sleep 0.05; done"
"""Before the session ends, what runs beside it is given two seconds."""


@dataclass(frozen=True)
class Effect:
    call: str
    """Id of the call that makes it."""
    file: str
    line: str
    beside: bool = False
    """Made by a job: its call has its outcome before."""


@dataclass(frozen=True)
class Program:
    replies: tuple[dict[str, Any], ...]
    """The lines of a script."""
    effects: tuple[Effect, ...]


def program(seed: int, steps: int = STEPS, *, doubled: bool = False) -> Program:
    """The same for the same seed. `doubled` plants a fault: an effect that happens twice by itself."""
    chance = random.Random(seed)
    # Each kind in every session that is long enough, in any order.
    kinds = [*KINDS, *chance.choices(KINDS, k=steps)][:steps]
    chance.shuffle(kinds)
    replies: list[dict[str, Any]] = []
    effects: list[Effect] = []
    calls = 0
    for number, kind in enumerate(kinds):
        made = []
        for place, (name, arguments, file) in enumerate(_calls(kind, number, chance)):
            calls += 1
            made.append({"name": name, "arguments": arguments})
            if file is not None:
                line = f"{number}-{place}"
                effects.append(Effect(f"call_{calls}", file, line, arguments.get("background") is True))
        replies.append({"text": f"Step {number}.", "calls": made})
    if doubled:
        replies[-1]["calls"].append(_bash(f"echo {effects[0].line} >> {effects[0].file}"))
    waits = [WAIT.format(line=effect.line) for effect in effects if effect.beside]
    replies += [{"calls": [_bash("; ".join(["true", *waits]))]}, {"text": "All of it is done."}]
    return Program(tuple(replies), tuple(effects))


def _bash(command: str) -> dict[str, Any]:
    return {"name": "bash", "arguments": {"command": command}}


def _calls(kind: str, number: int, chance: random.Random) -> list[tuple[str, dict[str, Any], str | None]]:
    """Name, arguments, and the file that the effect is counted in."""
    pause = f"sleep {chance.uniform(0.05, 0.4):.2f}"
    one = f"echo {number}-0 >> {RAN}"
    match kind:
        case "quick":
            return [("bash", {"command": one}, RAN)]
        case "begun":
            return [("bash", {"command": f"{one}; {pause}; echo finished"}, RAN)]
        case "late":
            return [("bash", {"command": f"{pause}; {one}"}, RAN)]
        case "two":
            another = f"{pause}; echo {number}-1 >> {RAN}"
            return [("bash", {"command": one}, RAN), ("bash", {"command": another}, RAN)]
        case "job":
            return [("bash", {"command": f"{pause}; {one}", "background": True}, RAN)]
        case "edit":
            new = f"{number}-0\nend\n"
            return [("edit", {"path": LIST, "edits": [{"old": "end\n", "new": new}]}, LIST)]
        case "write":
            path = f"written-{number}"
            return [("write", {"path": path, "content": f"{number}-0\n"}, path)]
    return [
        # Otherwise each time: who looks at the same again and again is stopped.
        ("read", {"path": "notes", "offset": 1 + number}, None),
        ("grep", {"pattern": "nothing"}, None),
        ("glob", {"pattern": "*"}, None),
    ]
