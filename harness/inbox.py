"""The inbox (queue of signals): what the user said and the model has not read. Pure; part of the session.

A prompt is accepted once its entry is on the disk. It leaves with the very entry that makes it a message of
the conversation, so a crash at any instant loses none, and none is read twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.events import Entry, PromptQueued

When = Literal["request", "turn"]
"""Steering goes in before the model's next request, a follow-up begins a turn of its own."""
MAX_WAITING = 100


@dataclass(frozen=True)
class Prompt:
    name: str
    """`q1`; unique in the session."""
    when: When
    text: str


class Inbox:
    """Feed it every entry that concerns it, in order: as they are written, or from a journal."""

    def __init__(self) -> None:
        self._waiting: dict[str, Prompt] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> tuple[Prompt, ...]:
        """The one that waits longest first."""
        return tuple(self._waiting.values())

    @property
    def steering(self) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in self.waiting if prompt.when == "request")

    def entry(self, text: str, when: When, by: str) -> PromptQueued:
        """What is to be written, and then fed, for a prompt to be accepted."""
        self._last += 1
        return PromptQueued(prompt=f"q{self._last}", when=when, text=text, by=by)

    def take(self, name: str) -> Prompt | None:
        """It waits no longer: nobody else can take it, drop it or read it."""
        return self._waiting.pop(name, None)

    def put_back(self, prompt: Prompt) -> None:
        """It waits again, in its place."""
        waiting = {**self._waiting, prompt.name: prompt}
        self._waiting = dict(sorted(waiting.items(), key=lambda item: int(item[0][1:])))

    def feed(self, entry: Entry) -> None:
        match entry.kind:
            case "prompt_queued":
                self._waiting[entry.prompt] = Prompt(entry.prompt, entry.when, entry.text)
                self._count(entry.prompt)
            case "prompt_dropped":
                self.take(entry.prompt)
            case "message" if entry.prompt is not None:
                self.take(entry.prompt)
                self._count(entry.prompt)
            case "rewound":
                # The user took back what was said since, and that is what waits.
                self._waiting.clear()

    def _count(self, name: str) -> None:
        """A fork, too, gives no name that its beginning holds already."""
        self._last = max(self._last, int(name[1:]))
