"""Masking: a secret that a reply echoes is replaced by its sentinel, also where it is cut in two.

The sentinel has the secret's length, so a reply's `Content-Length` stays true and nothing has to be held
back but what may be the beginning of a secret.
"""

from __future__ import annotations

import base64
import json
import re
import secrets as randomness
import string
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from sandbox.egress.peers import Peer

SHORTEST = 8
"""Bytes of a secret. A shorter one occurs by chance, and a stand-in for it could be guessed."""
LONGEST = 4096
_ALPHABET = string.ascii_letters + string.digits


def sentinel_for(secret: str) -> str:
    """A random stand-in of the same length, letters and digits. ValueError when the secret is none."""
    if not (SHORTEST <= len(secret) <= LONGEST and secret.isascii() and secret.isprintable()):
        raise ValueError(f"a secret has {SHORTEST} to {LONGEST} printable ASCII characters on one line")
    if " " in secret:
        raise ValueError("a secret has no spaces")
    return "".join(randomness.choice(_ALPHABET) for _ in secret)


def can_stand_for(secret: str, sentinel: str) -> bool:
    """Whether `sentinel_for` could have made this one."""
    alike = len(sentinel) == len(secret) and sentinel.isascii() and sentinel.isalnum()
    return alike and sentinel != secret


class Mask:
    """Replaces in a stream of bytes: feed it piece by piece, and flush it at the end."""

    def __init__(self, sentinels: Mapping[str, str]) -> None:
        """`sentinels`: secret to stand-in, of equal length."""
        self._forms: dict[bytes, bytes] = {}
        for secret, sentinel in sentinels.items():
            assert len(secret) == len(sentinel)
            for form, stand_in in zip(_forms(secret), _forms(sentinel), strict=True):
                # A spelling of another length (a quoted character) is filled up: lengths must not change.
                self._forms[form] = stand_in[: len(form)].ljust(len(form), b"x")
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None
        self._longest = len(longest_first[0]) if longest_first else 0
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """All that can be no part of a secret any more."""
        if self._pattern is None:
            return data
        text = self._pattern.sub(lambda found: self._forms[found[0]], self._held + data)
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def whole(self, data: bytes) -> bytes:
        """Of data that is whole, such as a header's value."""
        return data if self._pattern is None else self._pattern.sub(lambda found: self._forms[found[0]], data)

    def _beginning(self, text: bytes) -> int:
        """Length of the longest end of `text` that begins a secret."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[len(text) - size :]
            if any(form.startswith(end) for form in self._forms):
                return size
        return 0


class MaskedPeer:
    """A byte stream whose received bytes are masked. What may begin a secret waits for what follows it."""

    def __init__(self, beneath: Peer, mask: Mask) -> None:
        self._beneath, self._mask = beneath, mask
        self.send, self.end, self.abort = beneath.send, beneath.end, beneath.abort

    async def receive(self) -> bytes:
        while data := await self._beneath.receive():
            if shown := self._mask.feed(data):
                return shown
        return self._mask.flush()


def _forms(secret: str) -> list[bytes]:
    """The spellings a reply is likely to echo it in: plain, base64 at each alignment, quoted, in JSON."""
    raw = secret.encode()
    forms = [
        raw,
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
    ]
    for shift in range(3):
        # Of the base64 text only what does not depend on the bytes around it.
        encoded = base64.b64encode(bytes(shift) + raw)
        start, end = (shift * 8 + 5) // 6, (shift + len(raw)) * 8 // 6
        forms += [encoded[start:end], encoded[start:end].translate(bytes.maketrans(b"+/", b"-_"))]
    return forms
