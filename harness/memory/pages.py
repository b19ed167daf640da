"""The page table (context items): every part of every message, its size, and whether the model is sent it.

The session's messages are never changed. Beside them stands the context: the same messages with stubs for
results that were evicted, or a summary in place of the first ones. A page's number is its place among all
parts, so it is the same again when the session is rebuilt from its journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from harness.errors import JournalError
from harness.memory.snapshot import Snapshot
from harness.memory.stub import stub
from harness.messages import Message, Part

Kind = Literal["user", "model", "thinking", "call", "result"]
State = Literal["resident", "pinned", "evicted", "compacted"]

PART_TOKENS = 4
"""For the frame that a provider puts around each part."""
BULKY = 256
"""Tokens from which a result is worth a stub in its place."""
_MESSAGES = TypeAdapter(list[Message])


@dataclass(slots=True)
class Page:
    number: int
    """From 1; `p7` is how the model names the seventh."""
    kind: Kind
    name: str
    """The syscall's, for calls and results."""
    message: int
    part: int
    tokens: int
    """Estimated, of the whole page."""
    used: int
    """The turn in which it came, or was last recalled."""
    state: State = "resident"
    stub: str = ""
    """What the model is sent in its place once it is evicted; of bulky results alone."""
    gain: int = 0
    """Estimated tokens that the context loses with it then."""

    @property
    def id(self) -> str:
        return f"p{self.number}"


class PageTable:
    """The pages of one session and the context made of them. Incremental: a turn costs what is new in it."""

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.context: list[Message] = []
        """What the model is sent."""
        self._lent = False
        self.tokens = 0
        """Estimated, of the context."""
        self.turn = 0
        """Replies of the model so far."""
        self.changed: list[int] = []
        """Places of the context that are not as they were, until somebody took notice."""
        self.restarted = False
        """Whether all of it is not."""
        self._taken = 0
        self._replaced = 0
        """How many more messages there are than places in the context."""
        self._bulky: list[Page] = []
        self._plan: list[Page] = []

    def take(self, messages: Sequence[Message]) -> None:
        """Take in the messages that have come since."""
        for index in range(self._taken, len(messages)):
            message = messages[index]
            self.turn += message.role == "assistant"
            for place, part in enumerate(message.parts):
                self._add(message, index, place, part)
            self.context.append(message)
        self._taken = len(messages)

    def snapshot(self) -> Snapshot:
        """The context as it is now, whatever becomes of it."""
        self._lent = True
        return Snapshot(self.context)

    def page(self, page_id: str) -> Page | None:
        """The page the model calls so."""
        digits = page_id.removeprefix("p")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
            return None
        number = int(digits)
        return self.pages[number - 1] if 1 <= number <= len(self.pages) else None

    def part(self, page: Page) -> Part:
        """What the model is sent for it. Not for compacted pages."""
        return self.context[page.message - self._replaced].parts[page.part]

    def touch(self, page_id: str) -> None:
        """It was recalled, which counts as a use."""
        page = self.page(page_id)
        if page is not None:
            page.used = self.turn

    def evictable(self, before: int) -> list[Page]:
        """Bulky results that were last used before this turn, the one unused for longest first."""
        self._bulky = [page for page in self._bulky if page.state == "resident"]
        return sorted((page for page in self._bulky if page.used < before), key=lambda page: page.used)

    def evict(self, stubs: Iterable[tuple[str, str]]) -> None:
        """Put a stub in the place of each page. The calls they answer stay, so each result has its call.

        Raises JournalError for a page that could not be evicted: a journal that says otherwise is not obeyed.
        """
        context, changed = self._own(), dict[int, list[Any]]()
        for page_id, content in stubs:
            page = self.page(page_id)
            if page is None or page.kind != "result" or page.state != "resident":
                raise JournalError(f"{page_id[:20]!r} is no page that could be evicted", code="corrupt")
            place = page.message - self._replaced
            parts = changed.setdefault(place, [*context[place].parts])
            old = parts[page.part]
            parts[page.part] = {
                "type": "result",
                "call_id": old.call_id,
                "name": old.name,
                "content": content,
                "error": old.error,
            }
            self.tokens += text_tokens(content) - page.tokens
            page.state = "evicted"
        # A batch has hundreds, and one validation of all takes half the time of one for each.
        made = [{"role": context[place].role, "parts": parts} for place, parts in changed.items()]
        for place, message in zip(changed, _MESSAGES.validate_python(made), strict=True):
            context[place] = message
        self.changed += changed

    def compact(self, through: int, head: Sequence[Message]) -> None:
        """Put `head` in place of the session's first `through` messages, and of an earlier head."""
        assert self._replaced <= through <= self._taken
        self._own()[: max(0, through - self._replaced)] = head
        self._replaced = through - len(head)
        for page in self.pages:
            if page.message < through:
                page.state = "compacted"
        self.tokens = sum(tokens_of(part) for message in self.context for part in message.parts)
        self.changed, self.restarted = [], True

    def _own(self) -> list[Message]:
        """The context, to be changed and not only added to."""
        if self._lent:
            self.context, self._lent = self.context.copy(), False
        return self.context

    def _add(self, message: Message, index: int, place: int, part: Part) -> None:
        kind, name = kind_of(message, part)
        page = Page(len(self.pages) + 1, kind, name, index, place, tokens_of(part), self.turn)
        if kind == "user":
            page.state = "pinned"
        elif name == "plan":
            # The newest plan stays; the ones before it are like anything else.
            if kind == "call":
                for old in self._plan:
                    old.state = "resident" if old.state == "pinned" else old.state
                self._plan.clear()
            page.state = "pinned"
            self._plan.append(page)
        elif part.type == "result" and page.tokens >= BULKY:
            # Made here, where each turn has its own few, and not of hundreds in the turn that evicts.
            page.stub = stub(page.id, part.content)
            page.gain = page.tokens - text_tokens(page.stub)
            if page.gain > 0:
                self._bulky.append(page)
        self.pages.append(page)
        self.tokens += page.tokens


def tokens_of(part: Part) -> int:
    """A first guess, a token for four bytes; `calibration.py` corrects the sum."""
    match part.type:
        case "text":
            return text_tokens(part.text)
        case "result":
            return text_tokens(part.content)
        case "thinking":
            size = max(_bytes(part.text), len(json.dumps(part.block)))
        case "call":
            # As long as its JSON, to a few quotes, and made in a fifth of the time.
            size = _bytes(part.name) + _bytes(part.malformed or repr(part.arguments))
    return PART_TOKENS + -(-size // 4)


def text_tokens(text: str) -> int:
    """The same of a part that is only text."""
    return PART_TOKENS + -(-_bytes(text) // 4)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def kind_of(message: Message, part: Part) -> tuple[Kind, str]:
    """What a part is, and of which syscall."""
    match part.type:
        case "thinking":
            return "thinking", ""
        case "call":
            return "call", part.name
        case "result":
            return "result", part.name
    return ("user" if message.role == "user" else "model"), ""
