"""Loop detection: repetitions and short cycles, and nothing else."""

from __future__ import annotations

import pytest

from harness.loops import LoopDetector
from harness.messages import Call, Result


def verdicts(steps: str):
    """Each letter is a step; equal letters are equal steps."""
    detector = LoopDetector()
    return [
        detector.observe(
            [Call(id=str(number), name="bash", arguments={"command": step})],
            [Result(call_id=str(number), name="bash", content=step)],
        )
        for number, step in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "notice", "stop"),
    [
        ("aaaaa", 3, 5),
        ("xyaaaaa", 5, 7),
        ("ababababab", 6, 10),
        ("abcabcabcabcabc", 9, 15),
        ("xabababababx", 7, 11),
    ],
)
def test_the_third_round_is_told_and_the_fifth_ends_it(steps, notice, stop):
    seen = verdicts(steps)
    assert seen.index("notice") + 1 == notice
    assert seen.count("notice") == 1
    assert seen.index("stop") + 1 == stop


@pytest.mark.parametrize("steps", ["abcdefgh", "aabbccdd", "aabaacaad", "abcdabcdabcd", "ababcabab"])
def test_other_patterns_are_left_alone(steps):
    assert set(verdicts(steps)) == {None}


def test_the_same_calls_with_other_results_are_progress():
    detector = LoopDetector()
    call = Call(id="1", name="bash", arguments={"command": "make test"})
    for failures in range(20):
        result = Result(call_id="1", name="bash", content=f"{failures} failed")
        assert detector.observe([call], [result]) is None


def test_ids_do_not_hide_a_repetition_and_error_codes_tell_results_apart():
    detector = LoopDetector()
    for number in range(3):
        call = Call(id=f"call_{number}", name="read", arguments={"path": "a"})
        result = Result(call_id=call.id, name="read", content="x", error=None if number else "not_found")
        verdict = detector.observe([call], [result])
    assert verdict is None
