"""A service that grants shorter replies than are asked for: the session goes on with those."""

from __future__ import annotations

from typing import ClassVar

import pytest
from kernel_double import bash, calls, policy_with

from harness.events import Compacted, Notice, WindowLearned
from harness.messages import Message, Text, Usage
from harness.provider import LEAST_OUTPUT_TOKENS, OUTPUT_TOKENS, ProviderError, Reply
from harness.providers.scripted import ScriptedProvider

GOOD = '{"goal": "go", "findings": ["port 8713"]}'


class Grants(ScriptedProvider):
    """Refuses a longest reply over `most`; with `shared`, the messages count as well."""

    def __init__(self, replies, most, shared=False):
        super().__init__(replies)
        self.most, self.shared, self.asked = most, shared, []

    async def stream(self, request):
        size = sum(len(message.model_dump_json()) for message in request.messages) // 4
        self.asked.append(request.max_output_tokens)
        if request.max_output_tokens + (size if self.shared else 0) > self.most:
            raise ProviderError("output_limit", "max_tokens is too large")
        if request.purpose == "summary":
            yield Reply(Message(role="assistant", parts=(Text(text=GOOD),)), Usage(output_tokens=9), "end")
            return
        async for delta in super().stream(request):
            yield delta


def shown(run, code):
    """Notices of this kind that a screen was told of."""
    return sum(isinstance(event, Notice) and event.code == code for event in run.events)


@pytest.mark.parametrize("most", [4_096, 8_192, LEAST_OUTPUT_TOKENS])
async def test_a_session_goes_on_with_replies_as_long_as_the_service_grants(make_session, most):
    provider = Grants([calls(bash("echo hi")), "done"], most)
    run = make_session([], provider=provider)
    assert (await run.turn("go")).status == "done"
    refused = [asked for asked in provider.asked if asked > most]
    assert provider.asked == [*refused, provider.asked[-1], provider.asked[-1]]
    assert provider.asked[-1] <= most
    assert run.notices.count("output") == len(refused)
    assert shown(run, "output") == len(refused)
    assert not any(isinstance(entry, WindowLearned) for entry in run.journal.entries)


async def test_a_window_that_question_and_answer_share_is_made_room_in(make_session):
    async def talks(process):
        await process.out("word " * 200)
        return 0

    replies = [*(calls(bash(f"talks {number}"), text="word " * 200) for number in range(30)), "done"]
    provider = Grants(replies, 9_000, shared=True)
    run = make_session(
        [], provider=provider, commands={"talks": talks}, policy=policy_with(context_tokens=150_000)
    )
    assert (await run.turn("go")).status == "done"
    assert any(isinstance(entry, Compacted) for entry in run.journal.entries)
    # With less in the context, long replies are asked for again.
    assert provider.asked.count(OUTPUT_TOKENS) > 1


async def test_a_service_that_grants_next_to_nothing_ends_the_turn(make_session):
    provider = Grants(["done"], 10)
    run = make_session([], provider=provider)
    ended = await run.turn("go")
    assert ended.status == "failed"
    assert "cannot be made smaller" in ended.reason
    assert len(provider.asked) < 20


async def test_a_retry_is_shown_when_it_happens_and_not_again_when_it_is_written(make_session, monkeypatch):
    class Breaks(ScriptedProvider):
        faults: ClassVar = ["overloaded", "dropped"]

        async def stream(self, request):
            if self.faults:
                raise ProviderError(self.faults.pop(0), "try later")
            async for delta in super().stream(request):
                yield delta

    monkeypatch.setattr("harness.providers.retry._WaitAsAsked.__call__", lambda self, state: 0.0)
    run = make_session([], provider=Breaks(["done"]))
    assert (await run.turn("go")).status == "done"
    assert run.notices == ["retry", "retry"]
    assert shown(run, "retry") == 2
