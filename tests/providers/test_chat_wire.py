"""Chat Completions over the real wire, as OpenAI speaks it and as its imitations do."""

from __future__ import annotations

import json

import pytest
from asking import BASH, HASTY, KEY, ask, deltas_of, fault_of, reply_of
from wire_server import Answer, recut, sse, wire_server

from harness.messages import Call, Message, Result, Text, Thinking, Usage, user
from harness.provider import Request, TextDelta, ThinkingDelta
from harness.providers.openai_chat import OpenAIChatProvider
from harness.providers.wire import Clocks


def open_chat(url: str, clocks: Clocks = HASTY) -> OpenAIChatProvider:
    return OpenAIChatProvider("local-test", api_key=KEY, base_url=f"{url}/v1", clocks=clocks)


def chunk(finish: str | None = None, **delta) -> dict:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def call(
    index: int | None = 0, call_id: str | None = None, name: str | None = None, arguments: object = ""
) -> dict:
    fragment: dict = {"function": {"arguments": arguments}}
    if index is not None:
        fragment["index"] = index
    if call_id is not None:
        fragment["id"] = call_id
    if name is not None:
        fragment["function"]["name"] = name
    return chunk(tool_calls=[fragment])


def chat(*events: dict | str, finish: str | None = "stop") -> tuple[bytes, ...]:
    usage = {"prompt_tokens": 1000, "completion_tokens": 77, "prompt_tokens_details": {"cached_tokens": 900}}
    last = [chunk(finish)] if finish else []
    return sse(*events, *last, {"choices": [], "usage": usage}, "[DONE]", named=False)


HELLO = chat(chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo 🦀"))


async def answered(*chunks: bytes, request: Request | None = None):
    async with wire_server(Answer(chunks)) as server:
        provider = open_chat(server.url)
        reply = await reply_of(provider, request)
        await provider.aclose()
    return reply


async def test_text_usage_and_stop_are_read():
    for chunks in (HELLO, recut(HELLO, 1), recut(HELLO, 5)):
        async with wire_server(Answer(chunks)) as server:
            provider = open_chat(server.url)
            deltas = await deltas_of(provider)
            await provider.aclose()
        assert deltas[:2] == [TextDelta("Hel"), TextDelta("lo 🦀")]
        assert deltas[2].message == Message(role="assistant", parts=(Text(text="Hello 🦀"),))
        assert deltas[2].usage == Usage(input_tokens=100, output_tokens=77, cache_read_tokens=900)
        assert (deltas[2].stop, deltas[2].notes) == ("end", ())


async def test_the_request_is_exactly_this():
    said = Message(
        role="assistant",
        parts=(
            Thinking(text="hm", provider="openai-chat:local-test", block={"reasoning_content": "hm"}),
            Thinking(text="no", provider="openai-chat:other", block={"reasoning_content": "no"}),
            Call(id="call_1", name="bash", arguments={"command": "ls"}),
            Call(id="a.b", name="bash", malformed="{"),
        ),
    )
    results = Message(
        role="tool",
        parts=(
            Result(call_id="call_1", name="bash", content="ok"),
            Result(call_id="a.b", name="bash", content="not JSON", error="malformed_json"),
        ),
    )
    async with wire_server(Answer(HELLO), Answer(HELLO)) as server:
        provider = open_chat(server.url)
        await reply_of(provider, ask(user("go"), said, results, user("and?"), tools=(BASH,)))
        await reply_of(provider, ask(user("go"), system="", tools=()))
        await provider.aclose()
    body = server.asked[0].body
    safe = body["messages"][2]["tool_calls"][1]["id"]
    assert safe != "a.b"
    assert server.asked[0].path == "/v1/chat/completions"
    function = {"name": "bash", "description": "Run a command.", "parameters": BASH.parameters}
    assert body == {
        "model": "local-test",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 1000,
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "bash", "arguments": '{"command": "ls"}'},
                    },
                    {
                        "id": safe,
                        "type": "function",
                        "function": {"name": "bash", "arguments": '{"malformed_json": "{"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
            {"role": "tool", "tool_call_id": safe, "content": "[malformed_json] not JSON"},
            {"role": "user", "content": "and?"},
        ],
    }
    assert sorted(server.asked[1].body) == ["max_tokens", "messages", "model", "stream", "stream_options"]
    assert server.asked[1].body["messages"] == [{"role": "user", "content": "go"}]


async def test_parallel_calls_are_put_together_from_fragments():
    reply = await answered(
        *chat(
            chunk(role="assistant", content=None, tool_calls=None),
            call(0, "call_a", "bash", ""),
            call(0, arguments='{"comm'),
            call(1, "call_b", "read", '{"path"'),
            call(0, arguments='and": "ls"}'),
            call(1, arguments=': "a"}'),
            call(2, "call_c", "jobs"),
            call(3, "call_d", "bash", '{"command": '),
            finish="tool_calls",
        )
    )
    assert reply.stop == "calls"
    assert reply.message.parts == (
        Call(id="call_a", name="bash", arguments={"command": "ls"}),
        Call(id="call_b", name="read", arguments={"path": "a"}),
        Call(id="call_c", name="jobs"),
        Call(id="call_d", name="bash", malformed='{"command": '),
    )


async def test_fragments_without_index_belong_to_the_latest_call():
    reply = await answered(
        *chat(
            call(None, "call_a", "bash", '{"comm'),
            call(None, arguments='and": "ls"}'),
            call(None, "call_b", "bash", '{"command"'),
            call(None, "call_b", arguments=': "pwd"}'),
        )
    )
    assert [call.arguments["command"] for call in reply.message.calls] == ["ls", "pwd"]
    assert reply.stop == "calls"


async def test_calls_that_all_have_the_index_zero_stay_apart_by_their_ids():
    reply = await answered(
        *chat(
            call(0, "call_a", "bash", {"command": "ls"}),
            call(0, "call_b", "bash", {"command": "pwd"}),
        )
    )
    assert [call.arguments["command"] for call in reply.message.calls] == ["ls", "pwd"]


async def test_ids_become_safe_unique_and_stay_the_same():
    earlier = Message(role="assistant", parts=(Call(id="call_0", name="bash"),))
    request = ask(
        user("go"), earlier, Message(role="tool", parts=(Result(call_id="call_0", name="bash", content=""),))
    )
    events = chat(
        call(0, "call_0", "bash"),
        call(1, "x" * 99, "bash"),
        call(2, "ruf/ä", "bash"),
        call(3, "", "bash"),
        call(4, "same", "bash"),
        call(5, "same", "bash"),
    )
    first, second = await answered(*events, request=request), await answered(*events, request=request)
    ids = [call.id for call in first.message.calls]
    assert ids == [call.id for call in second.message.calls]
    assert len({*ids, "call_0"}) == 7
    assert all(len(call_id) <= 64 and call_id.isascii() and "/" not in call_id for call_id in ids)
    assert ids[4] == "same"
    assert len(first.notes) == 5


TAGGED = '<tool_call>\n{"name": "bash", "arguments": {"command": "echo {}"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "left", "commands"),
    [
        (f"I look.\n{TAGGED}", "I look.", ["echo {}"]),
        (TAGGED + "\n" + TAGGED, "", ["echo {}", "echo {}"]),
        (TAGGED.removesuffix("</tool_call>"), "", ["echo {}"]),
        ('<tool_call>{"name": "bash", "parameters": "{\\"command\\": \\"ls\\"}"}</tool_call>', "", ["ls"]),
        (f"The file says:\n```\n{TAGGED}\n```", f"The file says:\n```\n{TAGGED}\n```", []),
        (TAGGED.replace("bash", "rm"), TAGGED.replace("bash", "rm"), []),
        ("<tool_call>bash ls</tool_call>", "<tool_call>bash ls</tool_call>", []),
    ],
)
async def test_a_call_written_as_text_is_repaired_and_said_so(text, left, commands):
    reply = await answered(*chat(chunk(content=text[:9]), chunk(content=text[9:])))
    assert reply.message.text == left
    assert [call.arguments["command"] for call in reply.message.calls] == commands
    assert reply.stop == ("calls" if commands else "end")
    assert len(reply.notes) == 1


async def test_text_beside_a_real_call_is_not_searched_for_calls():
    reply = await answered(*chat(chunk(content=TAGGED), call(0, "call_a", "bash", "{}")))
    assert [call.id for call in reply.message.calls] == ["call_a"]
    assert reply.message.text == TAGGED


async def test_a_text_full_of_tags_costs_no_more_than_its_length():
    text = "<tool_call>{" * 50_000
    reply = await answered(*chat(chunk(content=text)))
    assert reply.message.text == text


async def test_reasoning_is_streamed_and_kept_under_its_own_name():
    async with wire_server(
        Answer(chat(chunk(reasoning_content="h"), chunk(reasoning_content="m"), chunk(content="x")))
    ) as server:
        provider = open_chat(server.url)
        deltas = await deltas_of(provider)
        await provider.aclose()
    assert deltas[:3] == [ThinkingDelta("h"), ThinkingDelta("m"), TextDelta("x")]
    assert deltas[-1].message.parts[0] == Thinking(
        text="hm", provider="openai-chat:local-test", block={"reasoning_content": "hm"}
    )


@pytest.mark.parametrize(
    ("finish", "stop"),
    [("stop", "end"), ("eos", "end"), ("length", "length"), ("content_filter", "refusal"), (None, "end")],
)
async def test_reasons_to_finish_vary(finish, stop):
    reply = await answered(*chat(chunk(content="x"), finish=finish))
    assert (reply.message.text, reply.stop) == ("x", stop)


async def test_a_server_that_does_not_count_costs_zeros_and_needs_no_done():
    reply = await answered(*sse(chunk(content="x"), chunk("stop"), named=False))
    assert reply.usage == Usage()


async def test_a_server_that_leaves_the_connection_open_after_its_reply_is_not_waited_for():
    events = sse(chunk(content="x"), chunk("stop"), named=False)
    async with wire_server(
        Answer(events, ending="open"), Answer((*events, b"data: [DONE]\n\n"), ending="open")
    ) as server:
        # All other clocks are so long that only this promise ends the wait.
        provider = open_chat(server.url, Clocks(first_s=3600, idle_s=3600, reply_s=3600, trailer_s=0.2))
        assert (await reply_of(provider)).message.text == "x"
        assert (await reply_of(provider)).message.text == "x"
        await provider.aclose()


async def test_a_whole_message_instead_of_deltas_is_read():
    whole = {"choices": [{"message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"}]}
    assert (await answered(*sse(whole, "[DONE]", named=False))).message.text == "all"


async def test_halves_of_a_character_in_two_deltas_are_joined():
    halves = [
        json.dumps(chunk(content="x")).replace('"x"', half)
        for half in ('"\\ud83e"', '"\\udd80"', '"\\ud83e"')
    ]
    reply = await answered(*chat(*halves))
    assert reply.message.text == "🦀\ufffd"


async def test_a_refusal_is_one():
    reply = await answered(*chat(chunk(refusal="I will not.")))
    assert (reply.stop, reply.message.text) == ("refusal", "I will not.")


async def test_trouble_in_the_middle_of_a_stream_has_its_own_fault():
    for error, fault in (
        ({"error": {"code": 429, "message": "Sorry"}}, "rate_limit"),
        ({"error": {"code": 502, "message": "Sorry"}}, "server"),
        ({"error": {"type": "server_error", "message": "Sorry"}}, "server"),
        ({"error": "Sorry"}, "server"),
    ):
        async with wire_server(Answer((HELLO[0], *sse(error, named=False)))) as server:
            provider = open_chat(server.url)
            said = await fault_of(provider)
            await provider.aclose()
        assert (said.fault, str(said)) == (fault, f"127.0.0.1:{server.port} answered with an error: Sorry")
    async with wire_server(
        Answer(sse(chunk("error"), named=False)), Answer(sse("[DONE]", named=False))
    ) as server:
        provider = open_chat(server.url)
        assert (await fault_of(provider)).fault == "server"
        assert (await fault_of(provider)).fault == "garbage"
        await provider.aclose()
