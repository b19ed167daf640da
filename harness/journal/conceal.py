"""Signals to whoever watches are redacted as the journal's entries are: nobody has done it before them."""

from __future__ import annotations

from collections.abc import Callable

from harness.events import EVENT, CallOutput, CallStarted, Event, TextStreamed
from harness.journal.redact import Redactor, StreamRedactor


class Concealed:
    """An `emit` before another one. Text that comes in pieces is held back where a secret may have begun."""

    def __init__(self, emit: Callable[[Event], None], redactor: Redactor) -> None:
        self._emit = emit
        self._redactor = redactor
        self._stream: StreamRedactor = redactor.stream()
        self._thinking = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextStreamed):
            if event.thinking != self._thinking:
                self._flush()
                self._thinking = event.thinking
            self._text(self._stream.feed(event.text))
            return
        self._flush()
        if isinstance(event, CallStarted | CallOutput):
            event = EVENT.validate_python(self._redactor.plain(event))
        self._emit(event)

    def _flush(self) -> None:
        self._text(self._stream.flush())

    def _text(self, text: str) -> None:
        if text:
            self._emit(TextStreamed(text=text, thinking=self._thinking))
