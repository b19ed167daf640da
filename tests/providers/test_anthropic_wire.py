"""Anthropic's Messages API over the real wire: what is sent, and what is made of what comes."""

from __future__ import annotations

import json

from asking import BASH, HASTY, KEY, ask, deltas_of, fault_of, reply_of
from wire_server import Answer, recut, sse, wire_server

from harness.messages import Call, Message, Result, Text, Thinking, Usage, user
from harness.provider import TextDelta, ThinkingDelta
from harness.providers.anthropic import AnthropicProvider

MODEL = "claude-test"
MAKER = f"anthropic:{MODEL}"


def open_claude(url: str, **extra) -> AnthropicProvider:
    return AnthropicProvider(MODEL, api_key=KEY, base_url=url, clocks=HASTY, extra=extra)


def start(index: int, **block) -> dict:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def stop(index: int) -> dict:
    return {"type": "content_block_stop", "index": index}


def message(*events: dict, stop_reason: str = "end_turn", **fields) -> tuple[bytes, ...]:
    usage = {
        "input_tokens": 12,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 30,
        "output_tokens": 1,
    }
    return sse(
        {
            "type": "message_start",
            "message": {"id": "msg_1", "role": "assistant", "content": [], "usage": usage},
        },
        {"type": "ping"},
        *events,
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None, **fields},
            "usage": {"output_tokens": 77},
        },
        {"type": "message_stop"},
    )


HELLO = message(
    start(0, type="text", text=""),
    delta(0, "text_delta", text="Hel"),
    delta(0, "text_delta", text="lo"),
    stop(0),
)


async def test_text_usage_and_stop_are_read():
    async with wire_server(Answer(HELLO)) as server:
        provider = open_claude(server.url)
        deltas = await deltas_of(provider)
        await provider.aclose()
    assert deltas[:2] == [TextDelta("Hel"), TextDelta("lo")]
    reply = deltas[2]
    assert reply.message == Message(role="assistant", parts=(Text(text="Hello"),))
    assert reply.usage == Usage(
        input_tokens=12, output_tokens=77, cache_read_tokens=900, cache_write_tokens=30
    )
    assert (reply.stop, reply.notes) == ("end", ())


async def test_counts_below_zero_give_nothing_back():
    events = tuple(chunk.replace(b"77", b"-77").replace(b"900", b"-900") for chunk in HELLO)
    async with wire_server(Answer(events)) as server:
        provider = open_claude(server.url)
        deltas = await deltas_of(provider)
        await provider.aclose()
    assert deltas[-1].usage == Usage(input_tokens=12, cache_write_tokens=30)


async def test_characters_may_be_cut_anywhere_between_packets():
    events = message(start(0, type="text", text=""), delta(0, "text_delta", text="naïve 🦀 – 日本"), stop(0))
    for size in (1, 3, 7):
        async with wire_server(Answer(recut(events, size))) as server:
            provider = open_claude(server.url)
            assert (await reply_of(provider)).message.text == "naïve 🦀 – 日本"
            await provider.aclose()


async def test_calls_are_put_together_from_fragments_and_run_beside_each_other():
    events = message(
        start(0, type="text", text=""),
        delta(0, "text_delta", text="I look."),
        stop(0),
        start(1, type="tool_use", id="toolu_1", name="bash", input={}),
        delta(1, "input_json_delta", partial_json=""),
        delta(1, "input_json_delta", partial_json='{"comm'),
        delta(1, "input_json_delta", partial_json='and": "ls'),
        start(2, type="tool_use", id="toolu_2", name="read", input={}),
        delta(2, "input_json_delta", partial_json='{"path": "a'),
        delta(1, "input_json_delta", partial_json=' -l"}'),
        delta(2, "input_json_delta", partial_json='"}'),
        start(3, type="tool_use", id="toolu_3", name="jobs", input={}),
        start(4, type="tool_use", id="toolu_4", name="bash", input={}),
        delta(4, "input_json_delta", partial_json='{"command": "x" '),
        stop_reason="tool_use",
    )
    async with wire_server(Answer(events)) as server:
        provider = open_claude(server.url)
        reply = await reply_of(provider)
        await provider.aclose()
    assert reply.stop == "calls"
    assert reply.message.calls == (
        Call(id="toolu_1", name="bash", arguments={"command": "ls -l"}),
        Call(id="toolu_2", name="read", arguments={"path": "a"}),
        Call(id="toolu_3", name="jobs", arguments={}),
        Call(id="toolu_4", name="bash", malformed='{"command": "x" '),
    )


async def test_thinking_is_streamed_kept_and_returned_byte_for_byte():
    signed = {"type": "thinking", "thinking": "Hm, ü", "signature": "EqoB+/=="}
    hidden = {"type": "redacted_thinking", "data": "EmwKAh/+"}
    silent = {"type": "thinking", "thinking": "", "signature": "c2ln"}
    events = message(
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Hm,"),
        delta(0, "thinking_delta", thinking=" ü"),
        delta(0, "signature_delta", signature="EqoB+/=="),
        stop(0),
        start(1, **hidden),
        start(2, type="tool_use", id="toolu_1", name="bash", input={}),
        delta(2, "input_json_delta", partial_json='{"command": "ls"}'),
        start(3, type="thinking", thinking="", signature=""),
        delta(3, "signature_delta", signature="c2ln"),
        start(4, type="tool_use", id="toolu_2", name="bash", input={}),
        delta(4, "input_json_delta", partial_json='{"command": "pwd"}'),
        stop_reason="tool_use",
    )
    async with wire_server(Answer(events), Answer(HELLO)) as server:
        provider = open_claude(server.url)
        deltas = await deltas_of(provider)
        said = deltas[-1].message
        # Through the journal and back: what is sent next must not know the difference.
        said = Message.model_validate_json(said.model_dump_json())
        results = Message(
            role="tool",
            parts=(
                Result(call_id="toolu_1", name="bash", content="a\n"),
                Result(call_id="toolu_2", name="bash", content="no", error="denied"),
            ),
        )
        await reply_of(provider, ask(user("go"), said, results))
        await provider.aclose()
    assert [delta.text for delta in deltas if isinstance(delta, ThinkingDelta)] == ["Hm,", " ü"]
    sent = server.asked[1].body["messages"]
    assert sent[1]["content"] == [
        signed,
        hidden,
        {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls"}},
        silent,
        {"type": "tool_use", "id": "toolu_2", "name": "bash", "input": {"command": "pwd"}},
    ]
    assert sent[2]["content"][0] == {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a\n"}
    assert sent[2]["content"][1]["is_error"] is True


async def test_thinking_of_another_model_is_not_sent():
    foreign = Thinking(
        text="x", provider="anthropic:claude-other", block={"type": "thinking", "signature": "x"}
    )
    said = Message(role="assistant", parts=(foreign, Text(text="hi")))
    async with wire_server(Answer(HELLO)) as server:
        provider = open_claude(server.url)
        await reply_of(provider, ask(user("go"), said, user("more")))
        await provider.aclose()
    assert server.asked[0].body["messages"][1]["content"] == [{"type": "text", "text": "hi"}]


async def test_the_request_is_exactly_this():
    async with wire_server(Answer(HELLO)) as server:
        provider = open_claude(server.url, thinking={"type": "adaptive"})
        await reply_of(provider, ask(user("go"), tools=(BASH,)))
        await provider.aclose()
    asked = server.asked[0]
    cached = {"type": "ephemeral"}
    assert asked.path == "/v1/messages"
    assert KEY in " ".join(asked.headers.values())
    assert asked.body == {
        "model": MODEL,
        "max_tokens": 1000,
        "stream": True,
        "thinking": {"type": "adaptive"},
        "system": [{"type": "text", "text": "be brief", "cache_control": cached}],
        "tools": [
            {
                "name": "bash",
                "description": "Run a command.",
                "input_schema": BASH.parameters,
                "cache_control": cached,
            }
        ],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "go", "cache_control": cached}]}],
    }


async def test_what_was_sent_once_is_sent_again_unchanged_but_for_the_cache_marks():
    call = Call(id="odd:id/1", name="bash", arguments={"b": 1, "a": [None]})
    broken = Call(id="toolu_2", name="bash", malformed='{"comm')
    turns = [
        user("go"),
        Message(role="assistant", parts=(Text(text=" \n"), call, broken)),
        Message(role="tool", parts=(Result(call_id="odd:id/1", name="bash", content="ok"),)),
        user("and quickly"),
        Message(role="assistant", parts=()),
        user("still there?"),
    ]
    async with wire_server(Answer(HELLO), Answer(HELLO)) as server:
        provider = open_claude(server.url)
        await reply_of(provider, ask(*turns[:3]))
        await reply_of(provider, ask(*turns))
        await provider.aclose()

    def bare(message: dict) -> str:
        blocks = [
            {key: value for key, value in block.items() if key != "cache_control"}
            for block in message["content"]
        ]
        return json.dumps({**message, "content": blocks})

    first, second = (asked.body["messages"] for asked in server.asked)
    assert [bare(message) for message in first[:2]] == [bare(message) for message in second[:2]]
    assert [block["type"] for block in second[2]["content"]] == ["tool_result", "text", "text"]
    assert second[1]["content"][1]["input"] == {"malformed_json": '{"comm'}
    assert second[1]["content"][0]["id"] == second[2]["content"][0]["tool_use_id"]
    assert set(second[1]["content"][0]["id"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert [json.dumps(asked.body[key]) for asked in server.asked for key in ("system", "tools")] == [
        json.dumps(server.asked[0].body[key]) for key in ("system", "tools")
    ] * 2
    marks = json.dumps(second).count("cache_control")
    assert marks == 2


async def test_stops_are_told_apart():
    for reason, expected in (
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "window"),
        ("stop_sequence", "end"),
        ("refusal", "refusal"),
    ):
        details = {"type": "refusal", "explanation": "not this", "category": None}
        events = message(start(0, type="text", text="x"), stop(0), stop_reason=reason, stop_details=details)
        async with wire_server(Answer(events)) as server:
            provider = open_claude(server.url)
            reply = await reply_of(provider)
            await provider.aclose()
        assert reply.stop == expected
        assert reply.notes == (("refused: not this",) if reason == "refusal" else ())


async def test_a_call_cut_before_its_arguments_is_malformed_and_not_a_call_without_any():
    events = message(start(0, type="tool_use", id="toolu_1", name="bash", input={}), stop_reason="max_tokens")
    async with wire_server(Answer(events)) as server:
        provider = open_claude(server.url)
        reply = await reply_of(provider)
        await provider.aclose()
    assert reply.message.calls == (Call(id="toolu_1", name="bash", malformed=""),)


async def test_an_unknown_block_is_left_out_and_said():
    events = message(start(0, type="hologram", data="x"), stop(0), start(1, type="text", text="hi"), stop(1))
    async with wire_server(Answer(events)) as server:
        provider = open_claude(server.url)
        reply = await reply_of(provider)
        await provider.aclose()
    assert reply.message.text == "hi"
    assert reply.notes == ("a block of the unknown type 'hologram' was left out",)


async def test_trouble_in_the_middle_of_a_stream_has_its_own_fault():
    for kind, fault in (
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limit"),
        ("api_error", "server"),
        ("authentication_error", "auth"),
        ("a_new_kind", "server"),
    ):
        error = {"type": "error", "error": {"type": kind, "message": "Sorry"}}
        async with wire_server(Answer((*HELLO[:4], *sse(error)))) as server:
            provider = open_claude(server.url)
            said = await fault_of(provider)
            await provider.aclose()
        assert (said.fault, str(said)) == (fault, "Anthropic answered with an error: Sorry")
