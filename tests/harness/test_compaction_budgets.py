"""What a compaction may cost and take: heads and requests within their budgets, and nothing paid in vain."""

from __future__ import annotations

import json

import pytest

from harness.events import Compacted
from harness.memory.assemble import Memory
from harness.memory.calibration import Calibration
from harness.memory.compaction import Cut, head
from harness.memory.facts import Facts, text_tokens
from harness.memory.room import make_room
from harness.memory.summary import LISTS, Summary, request, shortened
from harness.messages import Message, Text, Usage, user
from harness.provider import Reply

ENORMOUS = {"goal": "g" * 4000, **{name: ["本" * 800 for _ in range(60)] for name in LISTS}}
GOOD = {"goal": "mend the build", "findings": ["port 8713"]}


class Records:
    """Takes every entry as written."""

    def __init__(self):
        self.entries = []

    async def record(self, *entries):
        self.entries += entries
        return entries


class Asks:
    """A model that gives this summary, and counts so many tokens for each that was guessed."""

    def __init__(self, summary, ratio=1.0):
        self.summary, self.ratio, self.sizes = summary, ratio, []

    async def __call__(self, asked):
        (message,) = asked.messages
        self.sizes.append(text_tokens(message.text) * self.ratio)
        parts = (Text(text=json.dumps(self.summary)),)
        return Reply(Message(role="assistant", parts=parts), Usage(output_tokens=1), "end"), 0.0


def talk(messages, words):
    """A step of the model and of the user that nothing can be evicted of."""
    messages.append(Message(role="assistant", parts=(Text(text="word " * words),)))
    messages.append(user("go on"))


def headed(said, free, summary=None):
    memory = Memory()
    memory.table.take(said)
    return head(memory, said, Cut(len(said), 0, len(said), 1, 0), summary, free)


@pytest.mark.parametrize("tokens", [100, 600, 5_000, 200_000])
def test_a_summary_takes_its_share_however_long_the_model_made_it(tokens):
    short, left_out = shortened(Summary.model_validate(ENORMOUS), tokens)
    size = text_tokens(short.model_dump_json())
    assert size < tokens + 200
    for name in LISTS:
        assert len(getattr(short, name)) + left_out.get(name, 0) == 60
    if tokens == 200_000:
        assert not left_out


def test_short_items_stand_whole_beside_a_long_one():
    summary = Summary(goal="g", findings=("x" * 700, *(f"port {number}" for number in range(20))))
    short, left_out = shortened(summary, 400)
    assert short.findings == summary.findings
    assert not left_out


def test_what_a_head_leaves_out_of_a_summary_is_counted():
    text = headed([user("go")], 5_000, ENORMOUS)
    assert text_tokens(text) < 1_200
    shown = text.count('- "本')
    left_out = [int(part.split()[0]) for part in text.split("(the last ")[1:]]
    assert shown + sum(left_out) == 300


def test_an_enormous_earlier_summary_leaves_room_for_what_is_to_be_summarised():
    messages = [user("go")]
    talk(messages, 50)
    asked = request(messages, 1, ENORMOUS, 3_000)
    (message,) = asked.messages
    assert text_tokens(message.text) < 3_000 + 700
    assert "word word" in message.text
    assert "left_out" in message.text.partition("\n")[0]


@pytest.mark.parametrize("ratio", [1.0, 2.5])
async def test_a_request_for_a_summary_fits_the_window_as_the_provider_counts(ratio):
    limit, memory, messages, asks = 40_000, Memory(), [user("go")], Asks(GOOD, ratio)
    memory.calibration = Calibration(ratio, 1)
    for _ in range(60):
        talk(messages, 1_000)
    await make_room(memory, messages, limit, Records(), asks, overflowed=False)
    assert asks.sizes
    assert max(asks.sizes) < 0.55 * limit + 700 * ratio


def test_users_messages_that_have_room_together_stand_whole():
    said = [user("short"), user("long " * 300), user("middle " * 100), user("last " * 100)]
    text = headed(said, 6_000)
    assert all(message.text in text for message in said)
    assert "left out" not in text


def test_a_task_has_the_room_that_nothing_else_needs():
    text = headed([user("task " * 3_000), user("thanks")], 10_000)
    assert 1_300 < text_tokens(text) < 1_800
    assert "thanks" in text


@pytest.mark.parametrize("overflowed", [False, True])
async def test_nothing_is_paid_where_no_compaction_could_help(overflowed):
    records, asks, memory = Records(), Asks(GOOD), Memory()
    memory.fixed = 2_900
    # More than there is room for, and then less than a head would take.
    for limit in (2_500, 3_000):
        stuck = await make_room(memory, [user("do it")], limit, records, asks, overflowed=overflowed)
    assert asks.sizes == []
    assert not any(isinstance(entry, Compacted) for entry in records.entries)
    assert (stuck is not None) == overflowed


def test_many_short_messages_of_the_user_stay_within_their_budget():
    text = headed([user(f"ok {number}") for number in range(2_000)], 10_000)
    assert 1_000 < text_tokens(text) < 1_800
    assert "ok 1999\n" in text


async def test_a_summary_that_was_cut_off_is_asked_for_again_shorter():
    said = []

    async def asks(asked):
        said.append(asked.messages[0].text)
        text = '{"goal": "mend", "findings": ["po' if len(said) == 1 else json.dumps(GOOD)
        message = Message(role="assistant", parts=(Text(text=text),))
        return Reply(message, Usage(output_tokens=1), "length" if len(said) == 1 else "end"), 0.0

    memory, messages, records = Memory(), [user("go")], Records()
    for _ in range(20):
        talk(messages, 1_000)
    await make_room(memory, messages, 20_000, records, asks, overflowed=False)
    assert "write less" not in said[0]
    assert said[1].endswith("its end is missing; write less")
    assert records.entries[-1].summary["goal"] == GOOD["goal"]


def test_the_plan_stands_whole_in_the_facts():
    step = "mend this, and then that; " * 19
    facts = Facts(plan=(("done", "look"), ("in_progress", step)))
    assert f'- [in_progress] "{step}"' in facts.lines(1_000)
