"""What must hold of a session that was killed many times, judged by its journal, its output and the guest.

Pure: a planted fault in any of the three must be found (tests/recovery/test_soak.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from harness.events import CallOutcome, Entry, MessageAdded, SessionEnded
from harness.messages import Result
from harness.screen.jsonl import encode
from tests.soak.program import Effect

ENTRIES = frozenset(kind.model_fields["kind"].default for kind in get_args(Entry))
"""Kinds that are told only once they are in the journal; the others are passing."""


@dataclass(frozen=True)
class Said:
    """What one life acknowledged, and where in the journal it began to write."""

    first: int
    lines: Sequence[str]
    """Of its `--json`, whole ones."""


@dataclass
class Verdict:
    unknown: int = 0
    """Effects of which the model was told that nobody knows."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Whatever else is not as promised."""


def judge(
    entries: Sequence[Entry],
    said: Sequence[Said],
    effects: Sequence[Effect],
    counted: Mapping[tuple[str, str], int],
    *,
    container_killed: bool,
) -> Verdict:
    """`counted`: how often each file and line stands in the workspace as the session left it."""
    verdict = Verdict()
    for one in said:
        _acknowledged(entries, one, verdict)
    outcomes: dict[str, Result] = {}
    asked: list[str] = []
    for entry in entries:
        if isinstance(entry, MessageAdded):
            asked += [call.id for call in entry.message.calls]
        elif isinstance(entry, CallOutcome):
            if entry.result.call_id in outcomes:
                verdict.doubled.append(f"two outcomes of {entry.result.call_id}")
            outcomes[entry.result.call_id] = entry.result
    verdict.lost += [f"no outcome of {call}" for call in asked if call not in outcomes]
    for effect in effects:
        _effect(effect, outcomes.get(effect.call), counted, verdict, container_killed)
    if not entries or not isinstance(entries[-1], SessionEnded) or entries[-1].status != "done":
        verdict.faults.append("the session did not come to its end")
    return verdict


def _acknowledged(entries: Sequence[Entry], said: Said, verdict: Verdict) -> None:
    """All of it stands in the journal, in the order in which it was said. Not all that stands there was said:
    a harness may die, or a call be cancelled, in between.
    """
    written = (encode(entry) for entry in entries[said.first :])
    for line in said.lines:
        if json.loads(line)["kind"] in ENTRIES and line not in written:
            verdict.lost.append(f"acknowledged, and not in the journal: {line[:200]}")


def _effect(
    effect: Effect,
    result: Result | None,
    counted: Mapping[tuple[str, str], int],
    verdict: Verdict,
    container_killed: bool,
) -> None:
    if result is None:
        return  # It is among the lost.
    times = counted.get((effect.file, effect.line), 0)
    name = f"{effect.file}:{effect.line} ({effect.call}, {result.error or 'done'})"
    told_unknown = result.error in ("unknown", "sandbox_gone") and "unknown" in result.content
    told_not_run = result.error in ("not_run", "sandbox_gone") and "not run" in result.content
    verdict.unknown += told_unknown
    if times > 1:
        verdict.doubled.append(f"{name} happened {times} times")
    elif told_not_run:
        if times:
            verdict.faults.append(f"{name} happened, and the model was told that it did not")
    elif result.error is not None and not told_unknown:
        verdict.faults.append(f"{name} failed: {result.content[:200]}")
    elif not times and not told_unknown and not (effect.beside and container_killed):
        verdict.lost.append(f"{name} did not happen")
