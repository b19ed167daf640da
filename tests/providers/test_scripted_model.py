"""The scripted model: what a script says is what the session gets, and a bad script says where it is bad."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.messages import Message, Result, Text, user
from harness.provider import ProviderError, Reply, Request, TextDelta, ThinkingDelta
from harness.providers.scripted import ScriptedProvider


def request(*messages: Message) -> Request:
    return Request(system="", messages=messages, tools=())


async def reply_of(provider: ScriptedProvider, *messages: Message) -> Reply:
    deltas = [delta async for delta in provider.stream(request(*messages))]
    assert isinstance(deltas[-1], Reply)
    return deltas[-1]


async def test_replies_come_in_order_with_numbered_calls(tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text(
        "# the demo\n\n"
        '{"text": "look", "calls": [{"name": "bash", "arguments": {"command": "ls"}}, {"name": "glob"}]}\n'
        '{"calls": [{"name": "read", "arguments": {"path": "a"}}]}\n'
        '{"text": "done"}\n'
    )
    provider = ScriptedProvider.from_file(script)
    conversation = [user("go")]
    replies = []
    for _ in range(3):
        replies.append(await reply_of(provider, *conversation))
        conversation.append(replies[-1].message)
    assert [[call.id for call in reply.message.calls] for reply in replies] == [
        ["call_1", "call_2"],
        ["call_3"],
        [],
    ]
    assert replies[0].message.calls[0].arguments == {"command": "ls"}
    assert [reply.stop for reply in replies] == ["calls", "calls", "end"]


async def test_text_and_thinking_are_streamed_in_pieces():
    provider = ScriptedProvider([{"text": "what is said", "thinking": "what is thought"}])
    deltas = [delta async for delta in provider.stream(request(user("go")))]
    said = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    thought = [delta.text for delta in deltas if isinstance(delta, ThinkingDelta)]
    assert len(said) > 1
    assert "".join(said) == "what is said"
    assert "".join(thought) == "what is thought"


async def test_a_string_of_arguments_is_what_the_model_streamed():
    provider = ScriptedProvider(
        [
            {
                "calls": [
                    {"name": "bash", "arguments": '{"command": '},
                    {"name": "bash", "arguments": '{"command": "ls"}'},
                ]
            }
        ]
    )
    broken, whole = (await reply_of(provider, user("go"))).message.calls
    assert broken.malformed == '{"command": '
    assert whole.malformed is None
    assert whole.arguments == {"command": "ls"}


async def test_the_turn_is_read_off_the_request_so_a_resumed_session_continues():
    provider = ScriptedProvider(["one", "two"])
    first = (await reply_of(provider, user("go"))).message
    again = ScriptedProvider(["one", "two"])
    assert (await reply_of(again, user("go"), first, user("more"))).message.text == "two"
    assert (await reply_of(again, user("go"))).message.text == "one"


async def test_a_rewritten_history_is_counted_anew():
    provider = ScriptedProvider(["one", "two", "three"])
    one = Message(role="assistant", parts=(Text(text="one"),))
    await reply_of(provider, user("go"), one, user("more"))
    assert (await reply_of(provider, user("other"), user("more"))).message.text == "one"


async def test_a_script_that_runs_out_says_how_to_end_it():
    provider = ScriptedProvider(["only"])
    said = (await reply_of(provider, user("go"))).message
    with pytest.raises(ProviderError, match="has 1 replies and the session asks for number 2") as caught:
        await reply_of(provider, user("go"), said, user("more"))
    assert caught.value.fault == "drift"


async def test_usage_is_estimated_from_sizes():
    provider = ScriptedProvider(["a" * 40, "b" * 8])
    first = await reply_of(provider, user("x" * 400))
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage.cache_read_tokens) == (
        100,
        10,
        0,
    )
    result = Message(role="tool", parts=(Result(call_id="call_1", name="bash", content="y" * 80),))
    second = await reply_of(provider, user("x" * 400), first.message, result)
    assert (second.usage.input_tokens, second.usage.output_tokens, second.usage.cache_read_tokens) == (
        20,
        2,
        110,
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": ', "Expecting value"),
        ('["text"]', "a reply is an object"),
        ("{}", "a reply is an object"),
        ('{"text": 3}', "text: "),
        ('{"txt": "x", "calls": []}', "txt: Extra inputs"),
        ('{"calls": [{"arguments": {}}]}', "calls.0.name: Field required"),
        ('{"calls": [{"name": "bash", "arguments": [1]}]}', "calls.0.arguments"),
        ('{"text": "\udcff"}', "codec can't decode"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_reason(tmp_path, line, reason):
    script = tmp_path / "script.jsonl"
    script.write_bytes(b'{"text": "fine"}\n' + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(UsageError) as caught:
        ScriptedProvider.from_file(script)
    assert str(caught.value).startswith(f"{script}:2: ")
    assert reason in str(caught.value)


def test_a_script_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the script .*: No such file"):
        ScriptedProvider.from_file(tmp_path / "missing.jsonl")
    with pytest.raises(UsageError, match="Is a directory"):
        ScriptedProvider.from_file(tmp_path)
