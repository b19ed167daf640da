"""OpenAI's Responses API over the real wire: what is sent, and what is made of what comes."""

from __future__ import annotations

from asking import BASH, HASTY, KEY, ask, deltas_of, fault_of, reply_of
from wire_server import Answer, recut, sse, wire_server

from harness.messages import Call, Message, Result, Text, Thinking, Usage, user
from harness.provider import TextDelta, ThinkingDelta
from harness.providers.openai import OpenAIProvider

USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 900, "cache_write_tokens": 40},
    "output_tokens": 77,
    "output_tokens_details": {"reasoning_tokens": 50},
    "total_tokens": 1077,
}


def open_gpt(url: str, model: str = "gpt-5-test") -> OpenAIProvider:
    return OpenAIProvider(model, api_key=KEY, base_url=f"{url}/v1", clocks=HASTY)


def done(index: int, item: dict) -> dict:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def response(
    *events: dict, status: str = "completed", output: list[dict] | None = None, **fields
) -> tuple[bytes, ...]:
    final = {"id": "resp_1", "status": status, "output": output or [], "usage": USAGE, **fields}
    return sse(
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        *events,
        {"type": f"response.{status}", "response": final},
    )


def said(text: str) -> dict:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def called(name: str, arguments: str, call_id: str = "call_1") -> dict:
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": name, "arguments": arguments}


HELLO = response(
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "lo 🦀"},
    done(0, said("Hello 🦀")),
)


async def test_text_usage_and_stop_are_read():
    for chunks in (HELLO, recut(HELLO, 1), recut(HELLO, 5)):
        async with wire_server(Answer(chunks)) as server:
            provider = open_gpt(server.url)
            deltas = await deltas_of(provider)
            await provider.aclose()
        assert deltas[:2] == [TextDelta("Hel"), TextDelta("lo 🦀")]
        assert deltas[2].message == Message(role="assistant", parts=(Text(text="Hello 🦀"),))
        assert deltas[2].usage == Usage(
            input_tokens=60, output_tokens=77, cache_read_tokens=900, cache_write_tokens=40
        )
        assert deltas[2].stop == "end"


async def test_counts_that_are_none_cost_nothing_and_give_nothing_back():
    usage = {"input_tokens": -50, "output_tokens": "77", "input_tokens_details": {"cached_tokens": -900}}
    async with wire_server(Answer(response(done(0, said("hi")), usage=usage))) as server:
        provider = open_gpt(server.url)
        deltas = await deltas_of(provider)
        await provider.aclose()
    assert deltas[-1].usage == Usage()


async def test_a_count_beyond_all_counting_can_be_written_down():
    usage = {"input_tokens": 10**400, "output_tokens": 1}
    async with wire_server(Answer(response(done(0, said("hi")), usage=usage))) as server:
        provider = open_gpt(server.url)
        deltas = await deltas_of(provider)
        await provider.aclose()
    assert deltas[-1].usage == Usage(input_tokens=10**12, output_tokens=1)


async def test_reasoning_and_parallel_calls_come_back_in_order_and_byte_for_byte():
    first = {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "**Look** first"}],
        "encrypted_content": "gAAAAB+/==",
    }
    second = {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gBBBB"}
    events = response(
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "**Look** first"},
        done(0, first),
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"comm'},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": 'and": "ls"}'},
        done(1, called("bash", '{"command": "ls"}')),
        done(2, second),
        done(3, called("jobs", "", "call_2")),
        done(4, called("bash", '{"command": ', "call_3")),
    )
    async with wire_server(Answer(events), Answer(HELLO)) as server:
        provider = open_gpt(server.url)
        deltas = await deltas_of(provider)
        reply = deltas[-1].message
        reply = Message.model_validate_json(reply.model_dump_json())
        results = Message(
            role="tool",
            parts=(
                Result(call_id="call_1", name="bash", content="a\n"),
                Result(call_id="call_2", name="jobs", content="no", error="denied"),
            ),
        )
        await reply_of(provider, ask(user("go"), reply, results))
        await provider.aclose()
    assert deltas[0] == ThinkingDelta("**Look** first")
    assert deltas[-1].stop == "calls"
    assert reply.calls == (
        Call(id="call_1", name="bash", arguments={"command": "ls"}),
        Call(id="call_2", name="jobs"),
        Call(id="call_3", name="bash", malformed='{"command": '),
    )
    assert server.asked[1].body["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
        first,
        {"type": "function_call", "call_id": "call_1", "name": "bash", "arguments": '{"command": "ls"}'},
        second,
        {"type": "function_call", "call_id": "call_2", "name": "jobs", "arguments": "{}"},
        {
            "type": "function_call",
            "call_id": "call_3",
            "name": "bash",
            "arguments": '{"malformed_json": "{\\"command\\": "}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "a\n"},
        {"type": "function_call_output", "call_id": "call_2", "output": "[denied] no"},
    ]


async def test_the_request_is_exactly_this():
    async with wire_server(Answer(HELLO), Answer(HELLO)) as server:
        provider, older = open_gpt(server.url), open_gpt(server.url, "gpt-4.1-test")
        await reply_of(provider, ask(user("go"), tools=(BASH,)))
        await reply_of(older, ask(user("go"), system="", tools=()))
        await provider.aclose()
        await older.aclose()
    assert server.asked[0].path == "/v1/responses"
    assert server.asked[0].headers["authorization"] == f"bearer {KEY}"
    assert server.asked[0].body == {
        "model": "gpt-5-test",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "instructions": "be brief",
        "max_output_tokens": 1000,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "go"}]}],
        "tools": [
            {
                "type": "function",
                "name": "bash",
                "description": "Run a command.",
                "parameters": BASH.parameters,
                "strict": False,
            }
        ],
    }
    assert sorted(server.asked[1].body) == ["input", "max_output_tokens", "model", "store", "stream"]


async def test_reasoning_that_the_service_cannot_know_is_not_sent():
    made = "openai:gpt-5-test"
    unstored = Thinking(provider=made, block={"type": "reasoning", "id": "rs_1", "summary": []})
    foreign = Thinking(provider="openai:gpt-other", block={"type": "reasoning", "encrypted_content": "x"})
    trailing = Thinking(provider=made, block={"type": "reasoning", "id": "rs_2", "encrypted_content": "y"})
    reply = Message(role="assistant", parts=(unstored, foreign, Text(text="hi"), trailing))
    async with wire_server(Answer(HELLO)) as server:
        provider = open_gpt(server.url)
        await reply_of(provider, ask(user("go"), reply, user("more")))
        await provider.aclose()
    assert server.asked[0].body["input"][1:2] == [
        {"role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    ]
    assert len(server.asked[0].body["input"]) == 3


async def test_an_incomplete_response_says_why_and_keeps_what_was_not_finished():
    for reason, expected in (("max_output_tokens", "length"), ("content_filter", "refusal")):
        events = response(
            done(0, said("part one")),
            status="incomplete",
            output=[said("part one"), called("bash", "")],
            incomplete_details={"reason": reason},
        )
        async with wire_server(Answer(events)) as server:
            provider = open_gpt(server.url)
            reply = await reply_of(provider)
            await provider.aclose()
        assert reply.stop == expected
        assert reply.message.text == "part one"
        assert reply.message.calls[0].malformed == ("" if expected == "length" else None)


async def test_a_refusal_is_one():
    item = {**said(""), "content": [{"type": "refusal", "refusal": "I will not."}]}
    events = response({"type": "response.refusal.delta", "delta": "I will not."}, done(0, item))
    async with wire_server(Answer(events)) as server:
        provider = open_gpt(server.url)
        reply = await reply_of(provider)
        await provider.aclose()
    assert (reply.stop, reply.message.text) == ("refusal", "I will not.")


async def test_trouble_in_the_middle_of_a_stream_has_its_own_fault():
    for code, fault in (
        ("server_error", "server"),
        ("rate_limit_exceeded", "rate_limit"),
        ("context_length_exceeded", "context_overflow"),
        ("invalid_prompt", "request"),
        ("insufficient_quota", "request"),
    ):
        failed = {"type": "response.failed", "response": {"error": {"code": code, "message": "Sorry"}}}
        plain = {"type": "error", "code": code, "message": "Sorry", "param": None}
        for event in (failed, plain):
            async with wire_server(Answer((*HELLO[:2], *sse(event)))) as server:
                provider = open_gpt(server.url)
                error = await fault_of(provider)
                await provider.aclose()
            assert (error.fault, str(error)) == (fault, "OpenAI answered with an error: Sorry")
