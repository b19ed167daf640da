"""A model whose window is full before its answer is whole: room is made, and it goes on."""

from __future__ import annotations

from kernel_double import bash, calls

from harness.events import Compacted, WindowLearned
from harness.memory.pages import tokens_of
from harness.messages import Message, Text, Usage
from harness.notices import CUT_OFF
from harness.provider import Reply
from harness.providers.scripted import ScriptedProvider

TALK = "I think about this for a while, and then about that. " * 60
GOOD = '{"goal": "go", "findings": ["port 8713"]}'


class Fills(ScriptedProvider):
    """Says half of its answers where its messages leave no room in the window for more."""

    def __init__(self, replies, window):
        super().__init__(replies)
        self.window, self.requests = window, []

    async def stream(self, request):
        if request.purpose == "summary":
            yield Reply(Message(role="assistant", parts=(Text(text=GOOD),)), Usage(output_tokens=9), "end")
            return
        self.requests.append(request.messages)
        if sum(tokens_of(part) for message in request.messages for part in message.parts) > self.window:
            half = Message(role="assistant", parts=(Text(text="half of it"),))
            yield Reply(half, Usage(output_tokens=9), "window")
            return
        reply = None
        async for delta in super().stream(request):
            reply = delta
        yield reply


async def test_an_answer_that_the_window_cut_off_is_gone_on_with(make_session):
    async def step(process):
        return 0

    replies = [*(calls(bash(f"step {number}"), text=f"{number}: {TALK}") for number in range(20)), "done"]
    provider = Fills(replies, 6_000)
    run = make_session([], provider=provider, commands={"step": step})
    ended = await run.turn("go")
    assert ended.status == "done"
    assert 1 <= run.notices.count("window") <= 3
    kinds = [type(entry) for entry in run.journal.entries]
    assert WindowLearned in kinds
    assert Compacted in kinds
    said = [message.text for message in run.session.messages]
    assert said[said.index("half of it") + 1] == CUT_OFF
    after = next(sent for sent in provider.requests if sent[-1].text == CUT_OFF)
    assert sum(tokens_of(part) for message in after for part in message.parts) < 6_000


async def test_a_window_that_is_full_with_nothing_in_it_ends_the_turn(make_session):
    run = make_session([], provider=Fills(["done"], 0))
    ended = await run.turn("go")
    assert ended.status == "failed"
    assert "cannot be made smaller" in ended.reason
