"""Drift: where a session's conversation stops being the one that was recorded.

Two things may differ. Where the journal redacted something any text may stand; and every session has an id of
its own, so where the recording holds one of those it is about, any other may stand.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from harness.messages import Message
from harness.store import SESSION_ID

_REDACTED, _REDACTED_END = "‹redacted:", "›"
_ANY_ID = "00000000-000000-000000"
"""As long as any, so that the number of a byte is right after it, too."""
_CONTEXT = 24


def drift(now: Sequence[Message], recorded: Sequence[Message], ids: Set[str]) -> str | None:
    """What differs first, down to the byte; None where nothing does. `ids` are of the recorded sessions."""
    if now == recorded:
        return None
    for number, (ours, theirs) in enumerate(zip(now, recorded, strict=False), 1):
        if ours != theirs and (found := _first(ours, theirs, ids)) is not None:
            return f"message {number} ({theirs.role}) differs from {found}"
    if len(now) != len(recorded):
        return f"the session sends {len(now)} messages where {len(recorded)} were recorded"
    return None


def _first(now: Message, recorded: Message, ids: Set[str]) -> str | None:
    ours, theirs = _alike(now.model_dump_json(), recorded.model_dump_json(), ids)
    if ours == theirs or _matches(ours, theirs):
        return None
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if at is None else at
    near = slice(max(0, at - _CONTEXT), at + _CONTEXT)
    return f"byte {len(theirs[:at].encode())} on: recorded {theirs[near]!r}, now {ours[near]!r}"


def _alike(now: str, recorded: str, ids: Set[str]) -> tuple[str, str]:
    """Both with the same in place of the recorded sessions' ids, and of those that the recording has not."""
    others = set(SESSION_ID.findall(recorded)) - ids

    def blotted(text: str) -> str:
        return SESSION_ID.sub(lambda found: found[0] if found[0] in others else _ANY_ID, text)

    return blotted(now), blotted(recorded)


def _matches(now: str, recorded: str) -> bool:
    """Equal, where a redaction in the recording stands for any text."""
    head, *rest = recorded.split(_REDACTED)
    if not rest or not now.startswith(head):
        return False
    at = len(head)
    pieces = [piece.partition(_REDACTED_END)[2] for piece in rest]
    for piece in pieces[:-1]:
        at = now.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return len(now) - at >= len(pieces[-1]) and now.endswith(pieces[-1])
