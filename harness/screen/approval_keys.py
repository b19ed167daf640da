"""What a person types at an approval prompt, and what comes of it. Pure: bytes and the time go in.

A yes takes a deliberate key and nothing else: what was typed ahead, pasted, or is part of somebody's
sentence is thrown away and starts the wait anew. Enter, Escape, Ctrl-C, Ctrl-D and the end of input are no.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.approvals.petition import Reply, Scope

ARM_S = 0.4
"""After it appears, and after any key that is none of its own, a prompt takes no yes for this long."""
ALONE_S = 0.15
"""A yes counts once this long has passed without another key: words have more than one letter."""
SPLIT_S = 0.05
"""For the rest of an escape sequence; then it was the Escape key."""
MINUTES = 15.0
"""What `m` gives."""
SCOPES: dict[str, Scope] = {"y": "once", "s": "session", "m": "minutes", "a": "always"}
Key = Literal["no", "now", "next", "back", "top", "end", "other"] | Scope
_SCROLL: dict[bytes, Key] = {
    b"\x1b[A": "back", b"\x1bOA": "back", b"\x1b[5~": "back", b"b": "back", b"k": "back",
    b"\x1b[B": "next", b"\x1bOB": "next", b"\x1b[6~": "next", b" ": "next", b"j": "next",
    b"\x1b[H": "top", b"\x1b[1~": "top", b"g": "top", b"\x1b[F": "end", b"\x1b[4~": "end", b"G": "end",
}  # fmt: skip
_NO = frozenset([b"\r", b"\n", b"n", b"N", b"q", b"\x1b"])
_NOW = b"\x03\x04\x1c"
"""Ctrl-C, Ctrl-D, Ctrl-\\: a no at any time, however often they are pressed."""
_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
_TOKEN = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b.|[\xc0-\xff][\x80-\xbf]*|.", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(\[[0-?]*[ -/]*|O)?\Z")
_HELD_BYTES = 64


class Keys:
    """Bytes of a terminal as keys. What came in one piece and is no single key was not typed by a hand."""

    def __init__(self) -> None:
        self._held = b""
        self._held_at = 0.0
        self._pasting = False

    def feed(self, data: bytes, now: float) -> Iterator[Key]:
        if not data.strip(_NOW):
            self._held, self._pasting = b"", False
            yield "now"
            return
        data = self._held + data
        self._held = b""
        if self._pasting or _PASTE_BEGINS in data:
            self._paste(data)
            yield "other"
            return
        unfinished = _UNFINISHED.search(data)
        if unfinished is not None and len(data) <= _HELD_BYTES:
            self._held, self._held_at = data, now
            return
        tokens = _TOKEN.findall(data)
        if len(tokens) == 1:
            yield _key(tokens[0])
        elif all(token in _SCROLL for token in tokens):  # a key held down
            yield from (_SCROLL[token] for token in tokens)
        else:
            yield "other"

    def _paste(self, data: bytes) -> None:
        _, ends, after = data.rpartition(_PASTE_ENDS)
        self._pasting = not ends or _PASTE_BEGINS in after
        if self._pasting:
            self._held = data[-len(_PASTE_ENDS) :]  # the end may come in two pieces

    def tick(self, now: float) -> Iterator[Key]:
        """The Escape key says nothing more."""
        if self._held and not self._pasting and now - self._held_at >= SPLIT_S:
            held, self._held = self._held, b""
            yield "no" if held == b"\x1b" else "other"


def _key(token: bytes) -> Key:
    if token in _NO:
        return "no"
    if token in _SCROLL:
        return _SCROLL[token]
    return SCOPES.get(token.decode("latin-1"), "other")


@dataclass
class Choice:
    """The state of one prompt. `reply` is set once it is answered."""

    offers: tuple[Scope, ...]
    """What may be answered as far as the petition goes."""
    armed_at: float
    wider: bool = False
    """Whether more than `once` may be answered yet: it was seen to its end and hides nothing."""
    confirming: Scope | None = None
    """A wider scope that was chosen and takes another `y`."""
    reply: Reply | None = None
    _chosen: Reply | None = None
    _chosen_at: float = 0.0

    def rearm(self, now: float) -> None:
        """It was drawn anew, or somebody types something else: what comes next is not meant for it."""
        self.armed_at = now + ARM_S
        self._chosen = None

    def allowed(self) -> tuple[Scope, ...]:
        return tuple(scope for scope in self.offers if scope == "once" or self.wider)

    def press(self, key: Key, now: float) -> None:
        if key == "now":
            self.reply = Reply(False)
        elif now < self.armed_at or self._chosen is not None or key == "other":
            self.rearm(now)
        elif key == "no":
            self.reply = Reply(False)
        elif key == "once" and self.confirming is not None:
            self._choose(self.confirming, now)
        elif key == "once" and key in self.offers:
            self._choose(key, now)
        elif key in ("session", "minutes", "always") and key in self.allowed():
            self.confirming = key
        elif key in ("once", "session", "minutes", "always"):
            self.rearm(now)

    def _choose(self, scope: Scope, now: float) -> None:
        self._chosen = Reply(True, scope, MINUTES if scope == "minutes" else None)
        self._chosen_at = now

    def tick(self, now: float) -> None:
        if self._chosen is not None and now - self._chosen_at >= ALONE_S:
            self.reply = self._chosen
