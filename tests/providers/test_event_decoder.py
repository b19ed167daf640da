"""Server-sent events: the same whatever the packets, bounded whatever the service sends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.provider import ProviderError
from harness.providers import sse
from harness.providers.calls import clean, parse_call, safe_id
from harness.providers.sse import Event, EventDecoder

STREAM = (
    b': hello\n\nevent: a\ndata: {"n": 1,\ndata:  "s": "\xf0\x9f\xa6\x80"}\nid: 7\nretry: 5\n\n'
    b'data: {"type": "b",\r\ndata: "m": 2}\r\n\r\nevent: c\rdata: {}\r\rdata:[DONE]\n\ndata: {"cut": 1'
)
EVENTS = [
    Event("a", {"n": 1, "s": "🦀"}),
    Event("b", {"type": "b", "m": 2}),
    Event("c", {}),
    Event("[DONE]", {}),
]


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_the_same_events_come_of_any_packets(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    decoder = EventDecoder("test")
    chunks = [STREAM[start:end] for start, end in pairwise(places)]
    assert [event for chunk in chunks for event in decoder.feed(chunk)] == EVENTS


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_events_or_garbage(chunks):
    decoder, fault = EventDecoder("test"), None
    try:
        for chunk in chunks:
            list(decoder.feed(chunk))
    except ProviderError as exc:
        fault = exc.fault
    assert fault in {None, "garbage"}


def test_an_event_and_a_stream_have_a_largest_size(monkeypatch):
    monkeypatch.setattr(sse, "_EVENT_BYTES", 1000)
    monkeypatch.setattr(sse, "_STREAM_BYTES", 5000)
    decoder = EventDecoder("test")
    for _ in range(10):
        assert list(decoder.feed(b"x" * 100)) == []
    with pytest.raises(ProviderError, match="an event of more"):
        list(decoder.feed(b"x"))
    decoder = EventDecoder("test")
    for _ in range(50):
        assert list(decoder.feed(b": " + b"x" * 97 + b"\n")) == []
    with pytest.raises(ProviderError, match="for one reply"):
        list(decoder.feed(b"x"))


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_can_always_be_encoded_and_good_text_is_left_alone(text):
    cleaned = clean(text)
    cleaned.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


@given(st.text(st.characters(exclude_categories=())))
def test_a_safe_id_is_safe_and_stays_itself(call_id):
    safe = safe_id(call_id)
    assert 1 <= len(safe) <= 64
    assert safe_id(safe) == safe
    assert safe.isascii()


@pytest.mark.parametrize(
    "raw",
    [
        "null",
        "[]",
        '"x"',
        "3",
        "{",
        '{"a": 1} x',
        "{'a': 1}",
        '{"a": NaN}',
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        " ",
    ],
)
def test_arguments_that_are_no_object_are_kept_as_they_came(raw):
    call = parse_call("call_1", "bash", raw)
    assert (call.malformed, call.arguments) == (raw, {})


def test_no_arguments_are_an_empty_object_and_halves_of_characters_are_replaced():
    assert parse_call("call_1", "bash", "").malformed is None
    assert parse_call("call_1", "bash", None).arguments == {}
    assert parse_call("call_1", "bash", '{"a\\ud800": ["\\ud83e\\udd80", "\\udc00"]}').arguments == {
        "a\ufffd": ["🦀", "\ufffd"]
    }
