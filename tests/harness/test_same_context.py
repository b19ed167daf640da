"""What the model is sent after a resume: byte for byte what it was sent, wherever the harness dies.

Sessions drawn from a seed fill, overflow, compact and recall in a context far too small for them. Each of
their requests is made again from the journal alone, as that stood when the request went out.
"""

from __future__ import annotations

import json
import random

import pytest
from journal_double import first_entry
from kernel_double import ALLOW, bash

from harness.journal.reading import read
from harness.journal.record import FILE
from harness.journal.writer import Journal
from harness.memory.index import Index
from harness.memory.pages import tokens_of
from harness.memory.room import make_room
from harness.messages import Message, Text, Usage
from harness.provider import ProviderError, Reply
from harness.providers.calls import parse_call
from harness.recovery.rebuild import Rebuilder
from harness.recovery.takeup import finished
from policies.schema import Limits, Policy

SEEDS = (3, 5, 7, 11, 103, 117, 118)
"""The last ones come to where hardly anything can be put out any more."""
TURNS = 3
STEPS = 12
POINTS = 8
"""Of a session, at which its harness dies."""
WORDS = [
    "path",
    "port",
    "error",
    "build",
    "test",
    "café",
    "naïve",
    "北京",
    "‹x›",
    "decision",
    "number",
    "line",
]


class Restless:
    """A model that talks, floods itself, recalls, plans, is steered, and is told of too long a prompt."""

    name, model = "scripted", "x"

    def __init__(self, draw, journal):
        self.draw, self.journal = draw, journal
        self.window = draw.choice([None, None, 2_500, 4_000])
        self.run = None
        self.sent = []
        """Each request, with the length of the journal."""
        self.summaries = 0

    async def stream(self, request):
        draw = self.draw
        if request.purpose == "summary":
            self.summaries += 1
            text = draw.choice(["", "none", json.dumps(self._summary()), json.dumps(self._summary())])
            yield _reply((Text(text=text),), 90)
            return
        file = self.journal.directory / FILE
        self.sent.append((file.stat().st_size, shown(request.messages), request.replies))
        tokens = sum(tokens_of(part) for message in request.messages for part in message.parts)
        if (self.window and tokens > self.window) or (tokens > 2_000 and draw.random() < 0.03):
            raise ProviderError("context_overflow", "prompt is too long")
        if draw.random() < 0.15:
            await self._steer()
        parts = [Text(text=self._words(draw.choice([1, 20, 200])))]
        if len(self.sent) % STEPS:
            for place in range(draw.choice([1, 1, 1, 2, 3])):
                name, arguments = self._call()
                parts.append(parse_call(f"c{len(self.sent)}_{place}", name, arguments))
        yield _reply(tuple(parts), int(tokens * draw.choice([0.5, 1, 1, 1.4, 9])))

    async def aclose(self):
        pass

    async def _steer(self):
        session = self.run.session
        said = session.inbox.entry(self._words(self.draw.choice([3, 300])), "request", "terminal")
        await self.run.kernel.devices.recorder.record(said)
        session.inbox.feed(said)

    def _call(self):
        draw = self.draw
        match draw.randrange(8):
            case 0:
                return "recall", {"page": f"p{draw.randint(1, 60)}", "offset": draw.choice([1, 1, 5])}
            case 1:
                return "recall", {"query": self._words(2)}
            case 2:
                return "plan", {"steps": [self._step() for _ in range(draw.randint(1, 12))]}
            case 3:
                return "read", {"path": draw.choice(["/workspace/big", "/workspace/none"])}
        return bash(f"flood {draw.choice([1, 40, 400, 2000])} {len(self.sent)}")

    def _step(self):
        return {"step": self._words(8), "status": self.draw.choice(["pending", "done"])}

    def _summary(self):
        return {"goal": self._words(5), "findings": [self._words(9) for _ in range(self.draw.randint(1, 30))]}

    def _words(self, count):
        return " ".join(self.draw.choice(WORDS) for _ in range(count))


def _reply(parts, tokens):
    stop = "calls" if len(parts) > 1 else "end"
    return Reply(Message(role="assistant", parts=parts), Usage(input_tokens=tokens, output_tokens=5), stop)


def shown(messages):
    return json.dumps([message.model_dump(mode="json") for message in messages], ensure_ascii=False)


async def flood(process):
    count, name = int(process.argv[1]), process.argv[2]
    await process.out("".join(f"{number}: {WORDS[number % len(WORDS)]} {name}\n" for number in range(count)))
    return 0


class Nothing:
    """Takes no entry: whoever makes the same request again has nothing to write down first."""

    async def record(self, *entries):
        raise AssertionError(entries)


async def nobody(request):
    raise AssertionError(request)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_request_is_made_again_from_the_journal_alone(seed, make_session, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.journal.writer._sync", lambda fd: None)
    draw = random.Random(seed)
    limits = Limits(
        context_tokens=draw.choice([6_000, 9_000]), output_bytes=draw.choice([1_500, 9_000, 50_000])
    )
    policy = Policy(name="test", limits=limits, rules=(ALLOW,))
    journal = Journal.create(tmp_path / "s")
    await journal.append(first_entry("s", policy=policy))
    model = Restless(draw, journal)
    model.run = run = make_session(
        [], policy=policy, provider=model, journal=journal, archive=Index(journal.directory),
        commands={"flood": flood}, files={"/workspace/big": "a line that is long enough\n" * 900},
    )  # fmt: skip
    statuses = [(await run.turn(f"turn {number}")).status for number in range(TURNS)]
    journal.close()
    whole = (journal.directory / FILE).read_bytes()
    assert len(model.sent) >= TURNS, statuses
    made_anew = [record.entry for record in read(journal.directory) if record.entry.kind == "compacted"]
    assert all(one.tokens_after < one.tokens_before for one in made_anew if not one.replies)
    again = tmp_path / "again"
    again.mkdir()
    for length, sent, replies in draw.sample(model.sent, min(POINTS, len(model.sent))):
        (again / FILE).write_bytes(whole[:length])
        rebuilder = Rebuilder()
        for record in read(again):
            rebuilder.feed(record)
        past = rebuilder.rebuilt()
        memory, messages = past.session.memory, past.session.messages
        assert not finished(past)
        limit = limits.context_tokens
        memory.table.take(messages)
        if not memory.full(min(limit, memory.window or limit)):
            # Else everything was tried and is tried again before the next request, here as there.
            assert await make_room(memory, messages, limit, Nothing(), nobody, overflowed=False) is None
        assert (shown(memory.assemble(messages)), memory.replies) == (sent, replies)
