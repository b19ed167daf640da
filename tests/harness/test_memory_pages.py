"""The page table, eviction, calibration and the prefix: pure, by themselves and through the real loop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_double import bash, calls, policy_with

from harness.errors import JournalError
from harness.events import EvictedPage, MessageAdded, PagesEvicted
from harness.memory.assemble import Memory
from harness.memory.calibration import HIGHEST, LOWEST, Calibration
from harness.memory.eviction import HIGH, RECENT
from harness.memory.pages import PageTable, tokens_of
from harness.memory.rebuild import Rebuild
from harness.messages import Call, Message, Result, Usage, user
from harness.provider import Reply
from harness.providers.replay import ReplayProvider
from harness.providers.scripted import ScriptedProvider

LONG = "".join(f"a line of output, number {number}\n" for number in range(150))


def step(number: int, content: str = LONG, name: str = "bash") -> list[Message]:
    """A reply with one call, and its result."""
    call_id = f"c{number}"
    return [
        Message(role="assistant", parts=(Call(id=call_id, name=name, arguments={"command": f"n {number}"}),)),
        Message(role="tool", parts=(Result(call_id=call_id, name=name, content=content),)),
    ]


def history(steps: int, **more: str) -> list[Message]:
    return [user("mend it"), *(message for number in range(steps) for message in step(number, **more))]


def taken(messages: list[Message]) -> Memory:
    memory = Memory()
    memory.table.take(messages)
    return memory


def states(memory: Memory, kind: str = "result") -> list[str]:
    return [page.state for page in memory.table.pages if page.kind == kind]


def test_below_the_high_water_nothing_is_evicted():
    messages = history(20)
    memory = taken(messages)
    limit = int(memory.tokens / HIGH) + 10
    assert memory.make_room(messages, limit) is None
    assert memory.make_room(messages, limit - 20) is not None


def test_a_batch_goes_down_to_the_low_water_oldest_first_and_spares_what_is_new():
    messages = history(20)
    memory = taken(messages)
    limit = memory.tokens
    evicted = memory.make_room(messages, limit)
    assert evicted is not None
    memory.apply(evicted)
    found = states(memory)
    gone = found.index("resident")
    assert found == ["evicted"] * gone + ["resident"] * (20 - gone)
    assert 0.5 * limit < memory.tokens <= 0.6 * limit
    assert memory.tokens == evicted.tokens_after
    assert memory.make_room(messages, limit) is None


def test_the_last_turns_user_messages_and_the_plan_stay_however_small_the_window_is():
    messages = [*history(3), *step(50, name="plan"), user(LONG), *(m for n in range(60, 70) for m in step(n))]
    memory = taken(messages)
    evicted = memory.make_room(messages, 500)
    assert evicted is not None
    memory.apply(evicted)
    assert (
        states(memory) == ["evicted"] * 3 + ["pinned"] + ["evicted"] * (10 - RECENT) + ["resident"] * RECENT
    )
    assert states(memory, "user") == ["pinned", "pinned"]
    assert memory.assemble(messages)[-1] == messages[-1]


def test_only_the_newest_plan_is_pinned():
    messages = [*step(1, name="plan"), *step(2, name="plan")]
    assert states(taken(messages)) == ["resident", "pinned"]


def test_too_little_to_gain_is_not_worth_a_lost_cache():
    small = "x" * 1200
    messages = [
        *history(1, content=small),
        user("y" * 40_000),
        *(m for n in range(9, 14) for m in step(n, "z")),
    ]
    memory = taken(messages)
    assert memory.make_room(messages, int(memory.tokens / 0.95)) is None
    # Beyond the limit itself every bit counts.
    assert memory.make_room(messages, memory.tokens - 1) is not None


def test_what_is_evicted_keeps_its_call_its_error_and_says_how_it_is_had_again():
    messages = history(12)
    failed = (
        messages[2].parts[0].model_copy(update={"error": "timed_out", "content": f"\n {LONG}[exit code 3]"})
    )
    messages[2] = Message(role="tool", parts=(failed,))
    memory = taken(messages)
    evicted = memory.make_room(messages, 3000)
    assert evicted is not None
    memory.apply(evicted)
    result = memory.assemble(messages)[2].parts[0]
    assert isinstance(result, Result)
    assert (result.call_id, result.error) == ("c0", "timed_out")
    assert 'recall {"page": "p3"}' in result.content
    assert "it begins: a line of output, number 0\n" in result.content
    assert result.content.endswith("it ends: [exit code 3]")
    assert messages[2].parts[0].content.endswith("[exit code 3]")


def test_a_stub_carries_no_escape_and_is_bounded():
    result = Result(call_id="c", name="bash", content="\x1b]52;c;eA==\x07" * 9000 + "\n" + "\u202e" * 9000)
    table = PageTable()
    table.take([Message(role="tool", parts=(result,))])
    text = table.pages[0].stub
    assert text.replace("\n", "").isprintable()
    assert len(text) < 3000


def test_a_page_that_was_recalled_counts_as_used():
    messages = history(10)
    memory = taken(messages)
    memory.table.touch("p3")
    evicted = memory.make_room(messages, memory.tokens)
    assert evicted is not None
    assert [page.page for page in evicted.pages][:3] == ["p5", "p7", "p9"]


def test_pages_are_found_by_their_names_alone():
    table = PageTable()
    table.take(history(2))
    assert table.page("p1").kind == "user"
    assert [table.page(name) for name in ("p0", "p6", "p-1", "p٣", "x", "", "p" + "9" * 99)] == [None] * 7


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 6000), min_size=1, max_size=4), min_size=1, max_size=25),
    limit=st.integers(500, 20_000),
)
def test_results_keep_their_calls_and_the_sum_is_exact_whatever_is_evicted(sizes, limit):
    messages, memory = [user("go")], Memory()
    for number, results in enumerate(sizes):
        ids = [f"c{number}.{place}" for place in range(len(results))]
        messages.append(Message(role="assistant", parts=tuple(Call(id=one, name="bash") for one in ids)))
        made = (
            Result(call_id=one, name="bash", content="x" * size)
            for one, size in zip(ids, results, strict=True)
        )
        messages.append(Message(role="tool", parts=tuple(made)))
        before = list(memory.table.context)
        evicted = memory.make_room(messages, limit)
        if evicted is not None:
            memory.apply(evicted)
        sent = memory.assemble(messages)
        assert evicted is not None or list(sent[: len(before)]) == before
        for asked, answered in zip(sent[1::2], sent[2::2], strict=True):
            assert [call.id for call in asked.calls] == [part.call_id for part in answered.parts]
        assert memory.table.tokens == sum(tokens_of(part) for message in sent for part in message.parts)


def test_calibration_follows_the_provider_within_bounds():
    seen = Calibration().observe(1000, 1500)
    assert seen.tokens(1000) == 1500
    assert seen.observe(1000, 1500).ratio == 1.5
    assert seen.ratio > seen.observe(1000, 1000).ratio > 1.3
    assert Calibration().observe(1000, 0) == Calibration()
    assert Calibration().observe(0, 10) == Calibration()
    assert Calibration().observe(1, 10**12).ratio == HIGHEST
    assert Calibration().observe(10**12, 1).ratio == LOWEST


def test_a_provider_that_counts_more_makes_room_earlier():
    messages = history(20)
    memory = taken(messages)
    limit = memory.tokens * 2
    memory.assemble(messages)
    memory.observe(Usage(input_tokens=memory.tokens * 2))
    assert memory.make_room(messages, limit) is not None


def test_a_lost_cache_names_the_first_message_that_differs():
    messages, memory = history(3), Memory()
    memory.assemble(messages)
    assert memory.observe(Usage(input_tokens=100, cache_read_tokens=9000)) is None
    messages += step(3)
    memory.table.take(messages)
    memory.table.evict([("p5", "gone")])
    memory.assemble(messages)
    notice = memory.observe(Usage(input_tokens=9000, cache_read_tokens=200))
    assert notice is not None
    assert notice.code == "cache"
    assert "message 5 is the first that differs" in notice.text
    # Told once: the next request is compared with this one.
    memory.assemble(messages)
    assert memory.observe(Usage(input_tokens=9000, cache_read_tokens=150)) is None


def test_a_cache_that_ran_out_by_itself_blames_no_message():
    messages, memory = history(3), Memory()
    memory.assemble(messages)
    memory.observe(Usage(cache_read_tokens=9000))
    messages += step(3)
    memory.assemble(messages)
    notice = memory.observe(Usage(cache_write_tokens=9500))
    assert notice is not None
    assert "no message of the earlier request differs" in notice.text


def test_a_request_that_became_shorter_is_no_collapse():
    messages, memory = history(3), Memory()
    memory.assemble(messages)
    memory.observe(Usage(cache_read_tokens=9000))
    memory.table.evict([("p3", "gone")])
    memory.assemble(messages)
    assert memory.observe(Usage(input_tokens=4000)) is None


async def says_much(process):
    await process.out(LONG + process.argv[1])
    return 0


class Watched(ScriptedProvider):
    """Keeps every request as the bytes a provider would be sent."""

    def __init__(self, replies):
        super().__init__(replies)
        self.requests: list[list[str]] = []

    async def stream(self, request):
        self.requests.append([json.dumps(message.model_dump()) for message in request.messages])
        async for delta in super().stream(request):
            yield delta


async def test_over_a_hundred_turns_the_beginning_changes_only_when_a_batch_goes(make_session):
    replies = [*(calls(bash(f"step {number}"), text=f"Step {number}.") for number in range(100)), "done"]
    provider = Watched(replies)
    run = make_session(
        replies,
        provider=provider,
        commands={"step": says_much},
        policy=policy_with(context_tokens=30_000),
    )
    ended = await run.turn()
    assert ended.status == "done", ended
    evictions = [entry for entry in run.journal.entries if isinstance(entry, PagesEvicted)]
    pairs = zip(provider.requests, provider.requests[1:], strict=False)
    broken = sum(now[: len(before)] != before for before, now in pairs)
    assert len(provider.requests) == 101
    assert broken == len(evictions)
    assert 2 <= len(evictions) <= 15
    # Each is in the journal before the request that it made shorter.
    kinds = run.kinds()
    assert all(
        kinds[at + 1] == "message:assistant" for at, kind in enumerate(kinds) if kind == "pages_evicted"
    )
    # And from the journal the same table and the same bytes are made again.
    again = Rebuild(run.session.memory.fixed)
    for entry in run.journal.entries:
        again.feed(entry)
    again.settle()
    run.session.memory.assemble(run.session.messages)
    assert again.memory.assemble(again.messages) == run.session.memory.assemble(run.session.messages)
    assert again.memory.table.pages == run.session.memory.table.pages
    assert again.memory.calibration == run.session.memory.calibration
    assert again.memory.prefix.messages == run.session.memory.prefix.messages


async def test_a_lost_cache_is_told_in_the_session_and_its_journal(make_session):
    class Forgetful(Watched):
        async def stream(self, request):
            async for delta in super().stream(request):
                if isinstance(delta, Reply):
                    at = len(self.requests)
                    counts = {"input_tokens": 9000 * (at == 3), "cache_read_tokens": 5000 * (at != 3)}
                    delta = replace(delta, usage=Usage(**counts))
                yield delta

    replies = [*(calls(bash(f"echo {number}")) for number in range(4)), "done"]
    run = make_session(replies, provider=Forgetful(replies))
    await run.turn()
    assert run.notices == ["cache"]
    kinds = run.kinds()
    assert kinds[kinds.index("notice") + 1] == "message:assistant"
    assert kinds[: kinds.index("notice")].count("message:assistant") == 2


async def test_the_session_does_not_go_on_when_an_eviction_cannot_be_journalled(make_session):
    replies = [*(calls(bash(f"step {number}")) for number in range(20)), "done"]
    provider = Watched(replies)
    commands = {"step": says_much}
    first = make_session(
        replies, provider=provider, commands=commands, policy=policy_with(context_tokens=8_000)
    )
    await first.turn()
    at = first.kinds().index("pages_evicted")
    asked = sum(kind == "message:assistant" for kind in first.kinds()[:at])
    provider = Watched(replies)
    run = make_session(
        replies, provider=provider, commands=commands, policy=policy_with(context_tokens=8_000)
    )
    run.journal.fails_at = at
    with pytest.raises(JournalError):
        await run.turn()
    assert len(provider.requests) == asked
    assert "evicted" not in states(run.session.memory)


async def test_a_recording_with_evictions_replays_without_drift(make_session):
    replies = [*(calls(bash(f"step {number}")) for number in range(30)), "done"]
    settings = {"commands": {"step": says_much}, "policy": policy_with(context_tokens=8_000)}
    first = make_session(replies, **settings)
    await first.turn()
    assert first.kinds().count("pages_evicted") > 1
    again = make_session([], provider=ReplayProvider(first.journal.entries), **settings)
    assert (await again.turn()).status == "done"
    assert again.kinds() == first.kinds()


def test_a_journal_that_evicts_what_is_not_there_is_refused():
    told = Rebuild()
    told.feed(MessageAdded(message=user("go")))
    for page in ("p1", "p9"):
        gone = PagesEvicted(
            pages=(EvictedPage(page=page, tokens=1, stub="x"),), tokens_before=2, tokens_after=1
        )
        with pytest.raises(JournalError):
            told.feed(gone)
