"""A yes takes a deliberate key: what was typed ahead, pasted, or is part of a word is thrown away."""

from __future__ import annotations

import pytest

from harness.approvals.petition import Reply, Scope
from harness.screen.approval_keys import ALONE_S, ARM_S, MINUTES, SPLIT_S, Choice, Key, Keys

ALL: tuple[Scope, ...] = ("once", "session", "minutes", "always")


def answered(
    *pieces: tuple[float, bytes], wider: bool = True, offers: tuple[Scope, ...] = ALL
) -> Reply | None:
    """What these bytes, each after so many seconds, come to; None while nothing is answered."""
    keys, choice, now = Keys(), Choice(offers, ARM_S, wider), 0.0
    for wait, data in (*pieces, (1.0, b"")):
        until = now + wait
        while now < until - 1e-9 and choice.reply is None:
            now = min(until, now + 0.01)
            for key in keys.tick(now):
                choice.press(key, now)
            choice.tick(now)
        for key in keys.feed(data, now) if data else ():
            choice.press(key, now)
        if choice.reply is not None:
            return choice.reply
    return None


READY = (ARM_S + 0.01, b"")


def test_a_y_alone_is_yes_once() -> None:
    assert answered((1, b"y")) == Reply(True, "once")


@pytest.mark.parametrize("data", [b"\r", b"\n", b"n", b"q", b"\x1b", b"\x03", b"\x04", b"\x1c", b"\x03\x03"])
def test_enter_escape_and_what_ends_programs_are_no(data: bytes) -> None:  # D09
    assert answered((1, data)) == Reply(False)


@pytest.mark.parametrize("data", [b"y", b"y\n", b"\n", b"n", b"s", b" "])
def test_what_is_typed_before_it_is_armed_is_thrown_away(data: bytes) -> None:  # D09
    assert answered((0.05, data)) is None
    assert answered((ARM_S - 0.01, data)) is None


def test_typing_on_keeps_it_unarmed() -> None:
    typed = [(0.2, bytes([byte])) for byte in b"why yes, do y"]
    assert answered(*typed) is None


@pytest.mark.parametrize(
    "pieces",
    [
        [(1, b"yes")],
        [(1, b"y\n")],
        [(1, b"y"), (0.1, b"e"), (0.1, b"s")],
        [(1, b"y"), (0.05, b"\n")],
        [(1, b"yy")],
        [(1, b"\x1b[200~y\x1b[201~")],
        [(1, b"\x1b[200~"), (0.5, b"y"), (0.5, b"y\x1b[201~")],
        [(1, b"\x1b[200~y\x1b[20"), (0.3, b"1~")],
        [(1, b"\x1b[200~" + b"y" * 5000), (1, b"y"), (1, b"y")],
        [(1, b"\x1b[Z")],
        [(1, b"\x1b[M !!"), (1, b"\x1b[<0;3;3M")],
        [(1, b"\x1by")],
        [(1, b"\xff"), (0.1, b"y")],
        [(1, "ÿ".encode()), (0.1, b"y")],
        [(1, b"Y"), (1, b"A"), (1, b"S")],
    ],
)
def test_words_pastes_and_clicks_grant_nothing(pieces: list[tuple[float, bytes]]) -> None:  # D09
    reply = answered(*pieces)
    assert reply is None or not reply.granted


def test_after_a_paste_a_deliberate_key_counts_again() -> None:
    assert answered((1, b"\x1b[200~ls\ny\n\x1b[201~"), (1, b"y")) == Reply(True, "once")


def test_an_interrupt_inside_a_paste_that_never_ends_is_no() -> None:
    assert answered((1, b"\x1b[200~abc"), (1, b"\x03")) == Reply(False)


@pytest.mark.parametrize(
    ("key", "reply"),
    [
        (b"s", Reply(True, "session")),
        (b"m", Reply(True, "minutes", MINUTES)),
        (b"a", Reply(True, "always")),
    ],
)
def test_a_wider_scope_takes_a_second_key(key: bytes, reply: Reply) -> None:
    assert answered((1, key)) is None
    assert answered((1, key), (1, key)) is None
    assert answered((1, key), (1, b"\n")) == Reply(False)
    assert answered((1, key), (1, b"y")) == reply


@pytest.mark.parametrize("key", [b"s", b"m", b"a"])
def test_what_is_not_offered_or_not_yet_cannot_be_chosen(key: bytes) -> None:  # D04, D06
    assert answered((1, key), (1, b"y"), offers=("once",)) == Reply(True, "once")
    assert answered((1, key), (1, b"y"), wider=False) == Reply(True, "once")


def test_a_petition_without_once_is_not_granted_once() -> None:
    assert answered((1, b"y"), offers=("session",)) is None


def test_keys_that_scroll_are_known_whole_and_in_pieces() -> None:
    keys = Keys()
    assert list(keys.feed(b"\x1b[6~", 0)) == ["next"]
    assert list(keys.feed(b"\x1b[A\x1b[A", 0)) == ["back", "back"]
    assert list(keys.feed(b"\x1b[", 0)) == []
    assert list(keys.feed(b"B", 0.01)) == ["next"]
    assert list(keys.feed(b"\x1b", 1)) == []
    assert list(keys.tick(1 + SPLIT_S)) == ["no"]


def test_hostile_bytes_are_one_key_or_none_and_are_not_kept() -> None:
    keys = Keys()
    for data in (b"\x1b[" + b"0" * 100_000, b"\x1b" * 1000, bytes(range(256)) * 100):
        pressed: list[Key] = list(keys.feed(data, 0))
        assert set(pressed) <= {"other"}
        list(keys.tick(1))
    assert ALONE_S < ARM_S
