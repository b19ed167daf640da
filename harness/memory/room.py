"""Making room: evict, clip, compact, in this order, until the next request fits, or say why it cannot.

Each step is journalled before the shorter context is used. Facts are in the record anyway, so a summary that
nobody can write costs its words and never the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from harness.events import Compacted, Entry, WindowLearned
from harness.memory.assemble import Memory
from harness.memory.compaction import IN_A_ROW, Cut, clip, cut, head, room
from harness.memory.pages import tokens_of
from harness.memory.summary import UnusableSummary, parse, request
from harness.messages import JsonObject, Message, Usage, user
from harness.provider import ProviderError, Reply, Request

TRANSCRIPT = 0.5
"""Of the window, that a conversation to be summarised may take."""
ATTEMPTS = 2
CUT_OFF = "it was longer than an answer may be, and its end is missing; write less"


class Records(Protocol):
    async def record(self, *entries: Entry) -> tuple[Entry, ...]: ...


Ask = Callable[[Request], Awaitable[tuple[Reply, float | None] | None]]
"""The model's answer and its price; None when the turn was cancelled. Raises ProviderError after retries."""


@dataclass
class _Answers:
    """What the summary cost so far, and why there is none."""

    replies: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    why: str = ""


async def make_room(
    memory: Memory, messages: list[Message], limit: int, records: Records, ask: Ask, *, overflowed: bool
) -> str | None:
    """Bring the next request under `limit`; what to tell when that cannot be done. Nothing is done in vain.

    `overflowed` says that the provider refused the last request as too long, whatever was guessed.
    """
    memory.table.take(messages)
    if overflowed:
        learned = WindowLearned(tokens=memory.tokens)
        await records.record(learned)
        memory.window = learned.tokens
    limit = min(limit, memory.window or limit)
    if not room(memory, limit):
        return _stuck(memory, limit)
    before = memory.tokens
    evicted = memory.make_room(messages, limit)
    if evicted is not None:
        await _use(memory, messages, records, evicted)
    squeeze = 0
    while memory.full(limit) or (overflowed and memory.tokens > 0.9 * before):
        held = memory.tokens
        clipped = clip(memory, limit, squeeze)
        if clipped is not None:
            await _use(memory, messages, records, clipped)
            continue
        at = cut(memory, messages, limit, squeeze)
        if at is not None:
            if not await _compact(memory, messages, at, limit, records, ask, squeeze, overflowed):
                return None
            if memory.unhelpful >= IN_A_ROW:
                return (
                    f"the context is full ({memory.tokens:,} of {limit:,} tokens, {_whose(memory)}), and "
                    f"{IN_A_ROW} compactions in a row freed less than a tenth of it"
                )
        squeeze += 1
        if squeeze > IN_A_ROW and memory.tokens > 0.9 * held:
            break
    if memory.tokens > limit or (overflowed and memory.tokens >= before):
        return _stuck(memory, limit)
    return None


def _stuck(memory: Memory, limit: int) -> str:
    return (
        f"the context cannot be made smaller: {memory.tokens:,} of {limit:,} tokens, of which "
        f"{memory.calibration.tokens(memory.fixed):,} are the system prompt and the tools ({_whose(memory)})"
    )


def _whose(memory: Memory) -> str:
    return "limits.context_tokens" if memory.window is None else "the model's own window"


async def _use(memory: Memory, messages: list[Message], records: Records, entry: Entry) -> None:
    for written in await records.record(entry):
        memory.use(written, messages)


async def _compact(
    memory: Memory,
    messages: list[Message],
    at: Cut,
    limit: int,
    records: Records,
    ask: Ask,
    squeeze: int,
    overflowed: bool,
) -> bool:
    """Replace the beginning; False when the turn was cancelled meanwhile, and then nothing is changed."""
    cause: Literal["full", "overflow"] = "overflow" if overflowed else "full"
    before, answers = memory.tokens, _Answers()
    earlier = memory.compacted.summary if memory.compacted is not None else None
    free = room(memory, limit)
    text = head(memory, messages, at, earlier, free >> squeeze)
    after = _after(memory, text, at)
    if after >= before:
        return True  # No smaller: done each time, it would cost a summary and the cache.
    summary = earlier
    if at.through > at.begin:
        tokens = int((memory.fixed + free) * TRANSCRIPT)
        found = await _summarise(
            messages[at.begin : at.through], at.first_page, earlier, tokens, ask, answers
        )
        if found is None:
            return False
        if found:
            summary = found
            text = head(memory, messages, at, summary, free >> squeeze)
            after = _after(memory, text, at)
    entry = Compacted(
        through=at.through,
        pages=at.pages,
        cause=cause,
        summary=summary,
        fallback=answers.why,
        head=text,
        tokens_before=before,
        tokens_after=after,
        replies=answers.replies,
        usage=answers.usage,
        cost_usd=answers.cost_usd,
    )
    await _use(memory, messages, records, entry)
    return True


def _after(memory: Memory, text: str, at: Cut) -> int:
    """Tokens of the next request with this text in place of what is cut off."""
    guessed = sum(tokens_of(part) for part in user(text).parts) + at.tail_tokens
    return memory.calibration.tokens(memory.fixed + guessed)


async def _summarise(
    messages: list[Message],
    first_page: int,
    earlier: JsonObject | None,
    tokens: int,
    ask: Ask,
    answers: _Answers,
) -> JsonObject | None:
    """The summary as validated, empty where the facts alone must do, None when cancelled."""
    for _ in range(ATTEMPTS):
        try:
            answer = await ask(request(messages, first_page, earlier, tokens, answers.why))
        except ProviderError as exc:
            answers.why = f"the model's service gave none: {exc}"
            if exc.fault != "context_overflow":
                return {}
            tokens //= 3
            continue
        if answer is None:
            return None
        reply, cost = answer
        answers.replies += 1
        answers.usage = answers.usage.plus(reply.usage)
        answers.cost_usd = None if answers.cost_usd is None or cost is None else answers.cost_usd + cost
        try:
            summary = parse(reply.message.text)
        except UnusableSummary as exc:
            answers.why = CUT_OFF if reply.stop in ("length", "window") else str(exc)
            continue
        answers.why = ""
        return summary.model_dump(mode="json")
    return {}
