"""Redaction: values that must not reach the journal or a screen are replaced before they get there.

Two nets: the exact values of known secrets, in the spellings they usually take (plain, base64 at any
alignment, URL-quoted, JSON-escaped), and the shapes of well-known credentials. It catches leaks, not
smuggling: whoever may run code can spell a value in a way no net knows. The host's secrets are therefore
never in the container.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, get_origin
from urllib.parse import quote, quote_plus

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.journal.token_shapes import OPENED, SHAPES, WORD
from harness.messages import VERBATIM

SHORTEST = 6
"""Characters of a secret; a shorter value occurs by chance everywhere and is not looked for."""
DEEPEST = 100
"""Levels of nesting kept of free-form JSON; readers of the journal refuse much deeper text."""
MOST_HELD = 8192
_LINE_OF_SECRET = 16
_HEAD = 4
_INTEGER_BITS = 4096
_CREDENTIAL_NAME = re.compile(
    r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|ACCESS_KEY_ID|_PWD|_PAT)$", re.IGNORECASE
)

_HINTS = tuple((hint, shape) for shape in SHAPES for hint in shape.hints)
_MARKS = "-", "_"
"""Most hints have one of these, and to look for a single character costs next to nothing."""
_HINTS_OF = {
    present: [
        (hint, shape)
        for hint, shape in _HINTS
        if all(there or mark not in hint for mark, there in zip(_MARKS, present, strict=True))
    ]
    for present in itertools.product((False, True), repeat=len(_MARKS))
}

Json = Any


def host_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables whose names say that they hold a credential, e.g. `ANTHROPIC_API_KEY`."""
    return {name: value for name, value in environ.items() if value and _CREDENTIAL_NAME.search(name)}


class Redactor:
    """Replaces secrets by `‹redacted:NAME›` and credential shapes by `‹redacted:pattern›`."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        ignored: dict[str, str] = {}
        names: dict[str, str] = {}
        for name, value in sorted((secrets or {}).items()):
            value = encodable(value)
            if len(value.strip()) < SHORTEST:
                ignored[name] = f"shorter than {SHORTEST} characters"
                continue
            for form in _forms(value):
                names.setdefault(form, name)
        self.ignored: Mapping[str, str] = MappingProxyType(ignored)
        """Names of the secrets that are not looked for, with the reason."""
        self._names = names
        # Longest first: of a secret and one that begins it, the whole is replaced.
        self.forms: tuple[str, ...] = tuple(sorted(names, key=len, reverse=True))
        self._exact = re.compile("|".join(map(re.escape, self.forms))) if self.forms else None

    def text(self, text: str) -> str:
        r"""`text` with secrets replaced, and unpaired surrogates spelt out (`\udc80`): it can be encoded."""
        if len(text) < SHORTEST and text.isascii():
            return text
        return _shapes_replaced(self.exact(encodable(text)))

    def exact(self, text: str) -> str:
        """`text` with known secrets replaced, and nothing else."""
        # A plain search is much quicker than the alternation, and mostly finds nothing.
        for form in self.forms:
            if form in text and self._exact is not None:
                return self._exact.sub(lambda match: f"‹redacted:{self._names[match[0]]}›", text)
        return text

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where known secrets stand in `text`."""
        return [match.span() for match in self._exact.finditer(text)] if self._exact else []

    def stream(self) -> StreamRedactor:
        """For text that comes in pieces."""
        return StreamRedactor(self)

    def plain(self, value: object) -> Json:
        """A redacted copy of an entry, event or JSON value that is certain to be encodable as JSON.

        Field names and closed vocabularies of our own models stay whatever the secrets are, and so do fields
        marked VERBATIM, which a provider wants back as they came: only known secrets are taken from them.
        Numbers that JSON does not have become strings, and nesting beyond DEEPEST is left out, with a word in
        its place.
        """
        return _plain(value, DEEPEST, self.text, lambda text: self.exact(encodable(text)))


Redaction = Callable[[str], str]


def _plain(value: object, depth: int, text: Redaction, verbatim: Redaction) -> Json:
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _INTEGER_BITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth == 0:
        return "‹nested too deeply›"
    if isinstance(value, BaseModel):
        return _model(value, depth - 1, text, verbatim)
    if isinstance(value, Mapping):
        return _mapping(value, depth - 1, text, verbatim)
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1, text, verbatim) for item in value]
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _model(value: BaseModel, depth: int, text: Redaction, verbatim: Redaction) -> dict[str, Json]:
    out: dict[str, Json] = {}
    for name, treatment in _fields(type(value)):
        item = getattr(value, name)
        if treatment != "closed" and item is not None:
            redaction = verbatim if treatment == "verbatim" else text
            # Most fields are text.
            item = redaction(item) if type(item) is str else _plain(item, depth, redaction, verbatim)
        out[name] = item
    return out


def _mapping(
    value: Mapping[object, object], depth: int, text: Redaction, verbatim: Redaction
) -> dict[str, Json]:
    out: dict[str, Json] = {}
    for key, item in value.items():
        name = base = text(str(key))
        copies = 1
        while name in out:
            copies += 1
            name = f"{base}#{copies}"
        out[name] = _plain(item, depth, text, verbatim)
    return out


class StreamRedactor:
    """Redacts text that comes in pieces as if it had come whole: what may become a secret is held back.

    Text is released a word at a time, an authorization header a line at a time, a key block whole. Of a word
    without an end, the last MOST_HELD characters are held; what begins a known secret, until it is decided.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._heads = {form[:_HEAD] for form in redactor.forms}
        # Two stages, as in `Redactor.text`: shapes are looked for in what the first stage lets through.
        self._raw = ""
        self._words = ""

    def feed(self, piece: str) -> str:
        """What can be shown by now."""
        raw = self._raw + encodable(piece)
        cut = _outside(self._redactor.spans(raw), self._begun_secret(raw))
        self._raw = raw[cut:]
        words = self._words + self._redactor.exact(raw[:cut])
        cut = _begun_shape(words)
        self._words = words[cut:]
        return _shapes_replaced(words[:cut])

    def flush(self) -> str:
        """The rest, when the text has ended."""
        rest = self._words + self._redactor.exact(self._raw)
        self._raw = self._words = ""
        return _shapes_replaced(rest)

    def _begun_secret(self, text: str) -> int:
        """Where the text's end may be the beginning of a known secret."""
        forms = self._redactor.forms
        longest = len(forms[0]) if forms else 1
        for start in range(max(0, len(text) - longest + 1), len(text)):
            near_end = len(text) - start < _HEAD
            if (near_end or text[start : start + _HEAD] in self._heads) and any(
                form.startswith(text[start:]) for form in forms
            ):
                return start
        return len(text)


def _shapes_replaced(text: str) -> str:
    for hint, shape in _HINTS_OF["-" in text, "_" in text]:
        if hint in text:
            text = shape.pattern.sub(shape.replacement, text)
    return text


def _begun_shape(text: str) -> int:
    """Where the text's end may be the beginning of a credential."""
    low = max(0, len(text) - MOST_HELD)
    opened = OPENED.search(text, low)
    cut = opened.start() if opened else len(text)
    spans = [match.span() for hint, shape in _HINTS if hint in text for match in shape.pattern.finditer(text)]
    # A cut must fall neither into a shape nor into a word; one correction may need the other.
    while True:
        word = WORD.search(text, max(low, cut - MOST_HELD), cut)
        moved = _outside(spans, word.start() if word else cut)
        if moved == cut:
            return cut
        cut = moved


def _outside(spans: list[tuple[int, int]], cut: int) -> int:
    return min([cut, *(start for start, end in spans if start < cut < end)])


def encodable(text: str) -> str:
    """`text`, with unpaired surrogates spelt out: they have no UTF-8 and no JSON."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _forms(secret: str) -> set[str]:
    plain = {secret, secret.strip()}
    # A key file in a variable may be shown a line at a time, or with other line ends.
    plain |= {line.strip() for line in secret.splitlines() if len(line.strip()) >= _LINE_OF_SECRET}
    forms = set(plain)
    for value in plain:
        forms |= {quote(value), quote(value, safe=""), quote_plus(value)}
        forms |= {re.sub("%..", lambda match: match[0].lower(), form) for form in list(forms) if "%" in form}
        forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        forms |= set(_base64_cores(value.encode()))
    return {form for form in forms if len(form) >= SHORTEST}


def _base64_cores(value: bytes) -> Iterator[str]:
    """The characters of base64 text that depend on `value` alone, for each way it can be aligned in it."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value).decode()
        core = encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
        if len(core) >= SHORTEST:
            yield core
            yield core.replace("+", "-").replace("/", "_")


@lru_cache(maxsize=256)
def _fields(model: type[BaseModel]) -> tuple[tuple[str, Literal["closed", "verbatim", "redacted"]], ...]:
    """Names of the fields, and what becomes of their values."""
    return tuple((name, _treatment(field)) for name, field in model.model_fields.items())


def _treatment(field: FieldInfo) -> Literal["closed", "verbatim", "redacted"]:
    if get_origin(field.annotation) is Literal:
        return "closed"
    return "verbatim" if VERBATIM in field.metadata else "redacted"
