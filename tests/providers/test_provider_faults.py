"""A bad day of a model's service: whatever comes over the wire ends as one ProviderError that says what it
was.
"""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from asking import KEY, ask, deltas_of, fault_of, reply_of
from services import WIRED, Wired
from wire_server import Answer, recut, refusal, wire_server

from harness.provider import ProviderError, TextDelta
from harness.providers.faults import fault_of as fault_named
from harness.providers.wire import Clocks


@pytest.fixture(params=list(WIRED))
def service(request: pytest.FixtureRequest) -> Wired:
    return WIRED[request.param]


async def faults(service: Wired, *answers: Answer, clocks: Clocks | None = None) -> list[ProviderError]:
    """The error each answer ends in, one request an answer."""
    async with wire_server(*answers) as server:
        provider = service.open(server.url, *([clocks] if clocks else []))
        found = [await fault_of(provider) for _ in answers]
        await provider.aclose()
        assert len(server.asked) == len(answers), "a provider never retries by itself"
    return found


def error(message: str, **fields: object) -> dict:
    return {"type": "error", "error": {"message": message, **fields}}


async def test_a_status_has_its_fault(service):
    expected = {
        401: "auth",
        403: "auth",
        400: "request",
        404: "request",
        408: "timeout",
        409: "server",
        413: "context_overflow",
        422: "request",
        429: "rate_limit",
        500: "server",
        502: "server",
        503: "server",
        529: "overloaded",
    }
    found = await faults(service, *[refusal(status, error(f"said {status}")) for status in expected])
    assert [fault.fault for fault in found] == list(expected.values())
    assert all(
        str(fault).endswith(f"answered {status}: said {status}")
        for fault, status in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (500, error("Overloaded", type="overloaded_error"), "overloaded"),
        (
            400,
            error("prompt is too long: 213462 tokens > 200000 maximum", type="invalid_request_error"),
            "context_overflow",
        ),
        (
            400,
            error(
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
                type="invalid_request_error",
            ),
            "output_limit",
        ),
        (
            400,
            error("Too big", type="invalid_request_error", code="context_length_exceeded"),
            "context_overflow",
        ),
        (400, error("Your input exceeds the context window of this model."), "context_overflow"),
        (
            400,
            error("This model's maximum context length is 4096 tokens. However, you requested 5000."),
            "context_overflow",
        ),
        (
            400,
            {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."},
            "context_overflow",
        ),
        (
            500,
            error("the request exceeds the available context size, try increasing it", code=500),
            "context_overflow",
        ),
        (400, error("request (9000 tokens) is larger", type="exceed_context_size_error"), "context_overflow"),
        (
            400,
            {"error": "The number of tokens to keep from the prompt is greater than the context length"},
            "context_overflow",
        ),
        (400, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}, "output_limit"),
        (
            400,
            [{"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens"}}],
            "context_overflow",
        ),
        (400, {"error": "prompt too long; exceeded max context length by 12 tokens"}, "context_overflow"),
        (
            400,
            error("This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
            "context_overflow",
        ),
        (
            400,
            error("Invalid request: Your request exceeded model token limit: 262144"),
            "context_overflow",
        ),
        (400, error("The input (5000 tokens) is longer than the model's context length"), "context_overflow"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "request"),
        (429, error("too many tokens: reduce the length of the messages or wait"), "rate_limit"),
        (400, error("temperature is out of range"), "request"),
        (400, {"detail": [{"msg": "field required"}]}, "request"),
    ],
)
async def test_the_words_of_services_are_understood(service, status, body, fault):
    assert [found.fault for found in await faults(service, refusal(status, body))] == [fault]


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("Input tokens exceed the configured limit of 272000 tokens.", "context_overflow"),
        ("Input length 34000 exceeds the maximum allowed of 32000", "context_overflow"),
        ("prompt token count of 12345 exceeds the limit of 8192", "context_overflow"),
        ("tokens in request more than max tokens allowed", "context_overflow"),
        ("Range of input length should be [1, 98304]", "context_overflow"),
        ("total number of tokens in the prompt cannot exceed 4081", "context_overflow"),
        ("Invalid 'messages[1].content': string too long.", "context_overflow"),
        ("Prompt exceeds max length", "context_overflow"),
        ("max_tokens: 64000 > 8192, the maximum number of output tokens", "output_limit"),
    ],
)
def test_a_context_that_is_too_long_has_many_names(sentence, fault):
    assert fault_named(400, error(sentence)) == fault


async def test_how_long_to_wait_is_read_in_each_of_its_forms(service):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    found = await faults(
        service,
        refusal(429, error("x"), retry_after="7"),
        refusal(429, error("x"), retry_after="60", retry_after_ms="1500"),
        refusal(429, error("x"), retry_after=soon),
        refusal(429, error("x"), retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        refusal(429, error("x"), retry_after="soon"),
        refusal(429, error("x"), retry_after="inf"),
        refusal(429, error("x")),
    )
    waits = [fault.retry_after_s for fault in found]
    assert waits[:2] == [7.0, 1.5]
    assert 90 < waits[2] <= 100
    assert waits[3:] == [0.0, None, None, None]


async def test_a_stream_that_ends_or_breaks_in_the_middle_was_dropped(service):
    begun = service.hello[: service.begun]
    found = await faults(
        service,
        Answer(begun),
        Answer(begun, ending="cut"),
        Answer((*begun, service.hello[service.begun][:20]), ending="cut"),
        Answer(()),
    )
    assert [fault.fault for fault in found] == ["dropped"] * 4


async def test_text_that_was_streamed_before_the_break_was_yielded(service):
    async with wire_server(Answer(service.hello[: service.begun], ending="cut")) as server:
        provider = service.open(server.url)
        stream = provider.stream(ask())
        assert await anext(stream) == TextDelta("Hel")
        with pytest.raises(ProviderError):
            await anext(stream)
        await provider.aclose()


async def test_what_is_no_event_stream_is_garbage(service):
    stream = (("content-type", "text/event-stream"),)
    found = await faults(
        service,
        Answer(
            (b"<html><h1>Welcome to the hotel Wi-Fi</h1></html>",), headers=(("content-type", "text/html"),)
        ),
        refusal(200, {"hello": "you"}),
        Answer((b"no colons here\n\njust text\n\n",), headers=stream),
        Answer((b'data: {"type": "mes\n\n',), headers=stream),
        Answer((b"data: [1, 2]\n\n",), headers=stream),
        Answer((b'data: {"x": "\xff\xfe"}\n\n',), headers=stream),
        Answer((b"data: " + b"[" * 100_000 + b"\n\n",), headers=stream),
        Answer((bytes(range(256)) * 40,), headers=stream),
    )
    assert [fault.fault for fault in found] == ["garbage"] * 8
    assert "Welcome to the hotel Wi-Fi" in str(found[0])
    assert "<" not in str(found[0])


@pytest.mark.parametrize(
    "event",
    [
        b'event: content_block_delta\ndata: {"index": 7, "delta": {}, "choices": 3}\n\n',
        b'event: content_block_start\ndata: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'event: message_start\ndata: {"message": [], "choices": [{"delta": [1]}]}\n\n',
        b'event: content_block_delta\ndata: {"index": {}, "choices": [{"delta": {"tool_calls": [7]}}]}\n\n',
    ],
)
async def test_events_of_the_wrong_shape_are_garbage(event):
    for name in ("anthropic", "openai-chat"):
        (found,) = await faults(WIRED[name], Answer((event,)))
        assert found.fault == "garbage"


async def test_responses_of_the_wrong_shape_are_garbage():
    for event in (
        b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": 5}\n\n',
        b'event: response.completed\ndata: {"type": "response.completed", "response": null}\n\n',
        b'event: response.completed\ndata: {"response": {"output": [{"type": "message"}]}}\n\n',
        b'event: response.completed\ndata: {"response": {"output": [7]}}\n\n',
    ):
        (found,) = await faults(WIRED["openai"], Answer((event,)))
        assert found.fault == "garbage"


async def test_a_body_that_cannot_be_unpacked_is_an_error_of_ours(service):
    headers = (("content-type", "text/event-stream"), ("content-encoding", "gzip"))
    packed = gzip.compress(b"".join(service.hello))
    async with wire_server(Answer((packed,), headers=headers)) as server:
        provider = service.open(server.url)
        assert (await reply_of(provider)).message.text.startswith("Hello")
        await provider.aclose()
    (found,) = await faults(service, Answer((b"not gzip at all",), headers=headers))
    assert found.fault == "dropped"


async def test_nobody_listening_is_a_dropped_connection(service):
    async with wire_server() as server:
        pass
    provider = service.open(server.url)
    found = await fault_of(provider)
    await provider.aclose()
    assert (found.fault, "Connection refused" in str(found)) == ("dropped", True)


async def test_a_service_that_speaks_no_tls_says_so_or_times_out(service):
    found = []
    for answer in (b"HTTP/1.1 400 Bad\r\n\r\n", b""):
        over = asyncio.Event()

        async def behave(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            answer: bytes = answer,
            over: asyncio.Event = over,
        ) -> None:
            writer.write(answer)
            with suppress(ConnectionError):
                await reader.read()
            writer.transport.abort()
            over.set()

        listening = await asyncio.start_server(behave, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        provider = service.open(f"https://127.0.0.1:{port}", Clocks(connect_s=1))
        found.append(await fault_of(provider))
        await provider.aclose()
        await over.wait()
        listening.close()
        await listening.wait_closed()
    assert (found[0].fault, "SSL" in str(found[0])) == ("dropped", True)
    assert (found[1].fault, "within 1 s" in str(found[1])) == ("timeout", True)


async def test_silence_has_two_clocks(service):
    first = Clocks(connect_s=5, first_s=0.3, idle_s=30, reply_s=30, trailer_s=0.2)
    (found,) = await faults(service, Answer((), ending="open"), clocks=first)
    assert (found.fault, "0.3 s" in str(found)) == ("timeout", True)
    idle = Clocks(connect_s=5, first_s=30, idle_s=0.3, reply_s=30, trailer_s=0.2)
    (found,) = await faults(service, Answer(service.hello[: service.begun], ending="open"), clocks=idle)
    assert (found.fault, "nothing for 0.3 s" in str(found)) == ("timeout", True)


async def test_a_sign_of_life_resets_the_idle_clock_and_a_reply_still_has_an_end(service):
    # Ten pauses of 0.2 s: far more than the idle clock allows in all, and each is less.
    begun, rest = service.hello[: service.begun], service.hello[service.begun :]
    alive = Answer((*begun, *[b": still here\n\n"] * 8, *rest), pause_s=0.2)
    clocks = Clocks(connect_s=5, first_s=30, idle_s=1.0, reply_s=30, trailer_s=0.2)
    async with wire_server(alive) as server:
        provider = service.open(server.url, clocks)
        assert (await reply_of(provider)).message.text.startswith("Hello")
        await provider.aclose()
    endless = Answer((*begun, *[b": still here\n\n"] * 50), pause_s=0.2)
    clocks = Clocks(connect_s=5, first_s=30, idle_s=5, reply_s=1.5, trailer_s=0.2)
    (found,) = await faults(service, endless, clocks=clocks)
    assert (found.fault, "too long" in str(found)) == ("timeout", True)


async def test_a_slow_consumer_is_not_a_silent_service(service):
    clocks = Clocks(connect_s=5, first_s=0.5, idle_s=0.5, reply_s=30, trailer_s=0.2)
    async with wire_server(Answer(service.hello)) as server:
        provider = service.open(server.url, clocks)
        async for _ in provider.stream(ask()):
            await asyncio.sleep(0.6)
        await provider.aclose()


async def test_a_redirect_is_not_followed(service):
    async with wire_server(Answer(service.hello)) as other:
        moved = refusal(307, {}, location=f"{other.url}/v1")
        (found,) = await faults(service, moved)
        assert other.asked == []
    assert (found.fault, "redirects are not followed" in str(found)) == ("request", True)


async def test_no_key_is_ever_in_a_message(service):
    body = error(f"Incorrect API key provided: {KEY}.\nSee\x00 the   docs" + " very long" * 100)
    (found,) = await faults(service, refusal(401, body))
    assert "Incorrect API key provided: ‹key›. See" in str(found)
    assert len(str(found)) <= 400


async def test_the_stream_may_be_cut_into_any_pieces(service):
    for size in (1, 2, 13):
        async with wire_server(
            Answer(recut([c.replace(b"\n", b"\r\n") for c in service.hello], size))
        ) as server:
            provider = service.open(server.url)
            deltas = await deltas_of(provider)
            await provider.aclose()
        assert deltas[-1].message.text.startswith("Hello")
