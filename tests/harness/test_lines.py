"""Events as plain lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.events import (
    ApprovalAnswered,
    ApprovalAsked,
    CallOutcome,
    Compacted,
    EgressClosed,
    EgressDecided,
    Event,
    EvictedPage,
    GrantChanged,
    PagesEvicted,
    PostureMeasured,
    Resumed,
)
from harness.messages import Call, JsonObject, Result, Usage
from harness.screen.lines import OUTPUT_LINES, lines
from harness.words import LINE_CHARS, amount, bounded, clean_lines, duration, summary


@given(st.text(alphabet=st.characters()))
def test_a_line_is_printable_and_bounded_whatever_goes_in(text: str) -> None:
    shown = bounded(text, 40)
    assert shown.isprintable() or shown == ""
    assert len(shown) <= 40 * 10 + 40


def test_what_stands_behind_padding_stays_in_sight() -> None:
    assert bounded("ls" + " " * 5000 + "; curl evil") == "ls␠×5000; curl evil"
    assert bounded("ls " + "x" * 5000 + "; curl evil").endswith("; curl evil")


def test_a_carriage_return_cannot_overwrite_a_line() -> None:
    assert clean_lines("safe\r\nrm -rf /\rls      ") == ["safe", r"rm -rf /\rls      "]


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("bash", {"command": "make test"}, "$ make test"),
        ("bash", {"command": "set -e\nmake\nmake install"}, "$ set -e  (+2 lines)"),
        ("read", {"path": "a.py", "offset": 3}, "read a.py"),
        ("write", {"path": "a.py", "content": "12345"}, "write a.py (5 characters)"),
        ("edit", {"path": "a.py", "edits": [{}, {}]}, "edit a.py (2 replaced)"),
        ("job", {"id": 1}, 'job {"id": 1}'),
        ("plan", {}, "plan"),
        ("bash", {"command": 7}, 'bash {"command": 7}'),
    ],
)
def test_a_call_is_said_in_one_line(name: str, arguments: JsonObject, shown: str) -> None:
    assert summary(Call(id="1", name=name, arguments=arguments)) == shown


def test_malformed_arguments_are_shown_as_they_came() -> None:
    assert summary(Call(id="1", name="bash", malformed='{"comm')) == 'bash (malformed arguments) {"comm'


def test_a_long_result_shows_its_end_and_says_how_much_came_before() -> None:
    content = "\n".join(f"line {number}" for number in range(100))
    outcome = CallOutcome(result=Result(call_id="1", name="bash", content=content), duration_s=0.2)
    shown = [line.text for line in lines(outcome)]
    assert shown[0] == "  bash: 0.2 s"
    assert shown[1] == f"  | … {100 - OUTPUT_LINES} lines before"
    assert shown[-1] == "  | line 99"
    assert max(map(len, shown)) < LINE_CHARS + 100


@pytest.mark.parametrize(
    ("name", "own", "shown"),
    [("bash", 8.02, "8.0 s"), ("bash", 0.01, "0.2 s"), ("bash", "8", "0.2 s"), ("job", 8.02, "0.2 s")],
)
def test_a_command_that_was_adopted_took_as_long_as_it_ran(name: str, own: object, shown: str) -> None:
    result = Result(call_id="1", name=name, content="x")
    outcome = CallOutcome.model_validate(
        {"result": result, "duration_s": 0.2, "details": {"duration_s": own}}
    )
    assert next(lines(outcome)).text == f"  {name}: {shown}"


def test_amounts_and_durations_read_well() -> None:
    assert [amount(n, "B") for n in (0, 999, 1000, 999_499, 999_500, 2_340_000)] == [
        "0B",
        "999B",
        "1.0kB",
        "999.5kB",
        "1.0MB",
        "2.3MB",
    ]
    assert [duration(s) for s in (0.04, 59.9, 61, 3725)] == ["0.0 s", "59.9 s", "1 min 01 s", "1 h 02 min"]


NASTY = "x\x1b[2K\u202e\n"
EVENTS = [
    PostureMeasured(probes=41, cached=True, duration_s=0.1),
    ApprovalAsked(
        approval=NASTY,
        what="network",
        facts=(("host", NASTY), (NASTY, "443")),
        said=NASTY * 500,
        binding="0",
        call_id=None,
        timeout_s=1,
    ),
    ApprovalAnswered(approval=NASTY, granted=True, code="approved", scope="once", by=NASTY),
    ApprovalAnswered(approval="a1", granted=False, code="approval_timeout", scope=None, by="nobody"),
    GrantChanged(grant="g1", change="given", what=NASTY, binding="0", scope="minutes", until=1.0),
    EgressDecided(
        connection=1,
        protocol="http",
        host=NASTY,
        port=80,
        decision="deny",
        rule=NASTY,
        reason=NASTY,
        method="GET",
        path=NASTY,
        program=NASTY,
    ),
    PagesEvicted(pages=(EvictedPage(page=NASTY, tokens=9, stub=NASTY),), tokens_before=9000, tokens_after=10),
    Compacted(
        through=9,
        pages=20,
        cause="overflow",
        summary={"goal": NASTY},
        fallback=NASTY,
        head=NASTY,
        tokens_before=9000,
        tokens_after=10,
        replies=1,
        usage=Usage(),
        cost_usd=None,
    ),
    EgressClosed(connection=1, bytes_out=10, bytes_in=2_000_000, duration_s=1, why=NASTY),
    Resumed(by=NASTY, model=NASTY, service=NASTY, harness_version="0"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_questions_grants_and_connections_are_told_and_cannot_act_on_a_screen(event: Event) -> None:
    shown = [line.text for line in lines(event)]
    assert shown
    assert all(line.isprintable() for line in shown)
    assert max(map(len, shown)) < 3 * LINE_CHARS


def test_the_models_reason_is_told_last_as_its_own_words_and_cut() -> None:
    shown = [line.text for line in lines(EVENTS[1])]
    assert shown[-2].startswith("  the model says: “")
    assert len(shown[-2]) < 2000
    assert shown[-1].startswith("  waits 1.0 s for an answer")


def test_an_answer_says_its_code() -> None:
    assert [line.text for line in lines(EVENTS[3])] == ["a1 not allowed: approval_timeout"]
