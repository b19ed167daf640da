"""What is told while it happens is redacted like what is written down."""

from __future__ import annotations

import pytest

from harness.events import BudgetChanged, CallOutput, CallStarted, TextStreamed
from harness.journal.conceal import Concealed
from harness.journal.redact import Redactor
from harness.messages import Call

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def told():
    events = []
    return Concealed(events.append, Redactor({"API_KEY": SECRET})), events


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_secret_in_streamed_text_is_never_told_however_it_is_cut(told, size):
    emit, events = told
    text = f"The key is {SECRET}, you see."
    for start in range(0, len(text), size):
        emit(TextStreamed(text=text[start : start + size]))
    emit(BudgetChanged(turns=1, tokens=1, cost_usd=None, elapsed_s=0))
    said = "".join(event.text for event in events if isinstance(event, TextStreamed))
    assert said == "The key is ‹redacted:API_KEY›, you see."
    assert isinstance(events[-1], BudgetChanged)


def test_thinking_and_speech_stay_apart(told):
    emit, events = told
    emit(TextStreamed(text="hm", thinking=True))
    emit(TextStreamed(text="So"))
    emit(BudgetChanged(turns=1, tokens=1, cost_usd=None, elapsed_s=0))
    assert [(event.text, event.thinking) for event in events[:2]] == [("hm", True), ("So", False)]


def test_arguments_and_output_of_running_calls_are_redacted(told):
    emit, events = told
    emit(CallStarted(call=Call(id="1", name="bash", arguments={"command": f"echo {SECRET}"})))
    emit(CallOutput(call_id="1", tail=f"{SECRET}\n", total_bytes=29))
    assert events[0].call.arguments == {"command": "echo ‹redacted:API_KEY›"}
    assert events[1].tail == "‹redacted:API_KEY›\n"
