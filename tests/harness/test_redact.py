"""Redaction: known values in their usual spellings, shapes of credentials, text that comes in pieces."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.events import CallOutcome, MessageAdded, Notice
from harness.journal.redact import DEEPEST, Redactor, host_secrets
from harness.messages import Call, Message, Result, Text

SECRET = 'correct horse/battery+"staple"\\é'
REDACTOR = Redactor({"API_KEY": SECRET, "OTHER_TOKEN": "hunter2-hunter2"})
KEY_BLOCK = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEowIBAAKCAQEA0123456789abcdef\n" * 3
    + "Zm9v=\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        SECRET.encode("utf-8").decode("utf-8"),
    ],
)
def test_a_known_value_is_replaced_by_its_name_in_its_usual_spellings(spelling):
    assert REDACTOR.text(f"a {spelling} b {spelling}") == "a ‹redacted:API_KEY› b ‹redacted:API_KEY›"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "\n", "!!", "@host"])
def test_a_known_value_is_found_inside_base64_at_any_alignment(encode, before, after):
    shown = REDACTOR.text(encode(f"{before}hunter2-hunter2{after}".encode()).decode())
    assert "‹redacted:OTHER_TOKEN›" in shown
    left = shown.replace("‹redacted:OTHER_TOKEN›", "")
    whole = len(base64.b64encode(f"{before}{after}".encode()))
    assert len(left) <= whole + 8


def test_the_longer_of_two_nested_secrets_is_replaced_whole():
    redactor = Redactor({"SHORT": "abcdef", "LONG": "abcdefghijkl"})
    assert redactor.text("abcdefghijkl abcdef") == "‹redacted:LONG› ‹redacted:SHORT›"


def test_a_secret_that_is_a_word_of_the_replacement_does_not_multiply():
    assert Redactor({"A_KEY": "redacted"}).text("redacted") == "‹redacted:A_KEY›"


def test_each_line_of_a_key_file_counts():
    redactor = Redactor({"SSH_KEY": "header\nAAAABBBBCCCCDDDD\r\nEEEEFFFFGGGGHHHH\n"})
    assert redactor.text("> EEEEFFFFGGGGHHHH <") == "> ‹redacted:SSH_KEY› <"


def test_short_values_are_not_looked_for_and_say_so():
    redactor = Redactor({"A_KEY": "12345", "B_KEY": "   x   "})
    assert redactor.text("12345") == "12345"
    assert redactor.ignored == {"A_KEY": "shorter than 6 characters", "B_KEY": "shorter than 6 characters"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-ant-api03-abcdefghijklmnop_qrst!", "key ‹redacted:pattern›!"),
        ("sk-proj-0123456789abcdefghijkl", "‹redacted:pattern›"),
        ("ghp_" + "a1" * 18, "‹redacted:pattern›"),
        ("github_pat_" + "a1" * 18, "‹redacted:pattern›"),
        ("id AKIAABCDEFGHIJKLMNOP.", "id ‹redacted:pattern›."),
        ("xoxb-1234567890-abcdef", "‹redacted:pattern›"),
        ("AIza" + "x" * 35, "‹redacted:pattern›"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmno", "‹redacted:pattern›"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ‹redacted:pattern›"),
        ("authorization: basic dXNlcjpwYXNz\r\nx", "authorization: basic ‹redacted:pattern›\r\nx"),
        (r"{\"Authorization\": \"Bearer abcdefgh\"}", r"{\"Authorization\": \"Bearer ‹redacted:pattern›\"}"),
        ("x-api-key: 0123456789", "x-api-key: ‹redacted:pattern›"),
        ("https://me:pa55word@git.test/x", "https://me:‹redacted:pattern›@git.test/x"),
        (f"a\n{KEY_BLOCK}\nb", "a\n‹redacted:pattern›\nb"),
        (json.dumps(KEY_BLOCK), '"‹redacted:pattern›"'),
        (KEY_BLOCK[:90], "‹redacted:pattern›"),
    ],
)
def test_shapes_of_credentials_are_replaced(text, shown):
    assert REDACTOR.text(text) == shown
    assert REDACTOR.text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "task-abcdefghijklmnopqrstuvwxyz",
        "sk-learn",
        "a begin: -----BEGIN PRIVATE KEY----- is how it starts",
        "sha256:" + "0123456789abcdef" * 4,
        "http://host.test:8080/path@v1",
        "authorization: bearer of news",
        "MAKIAABCDEFGHIJKLMNOP",
    ],
)
def test_what_only_resembles_a_credential_stays(text):
    assert REDACTOR.text(text) == text


def test_entries_are_redacted_in_values_and_keys_but_keep_their_form():
    redactor = Redactor({"A_KEY": "assistant", "B_KEY": "message", "C_KEY": "hunter2"})
    call = Call(
        id="c", name="bash", arguments={"hunter2": ["hunter2", {"x": "hunter2"}], "message": "message"}
    )
    entry = MessageAdded(message=Message(role="assistant", parts=(Text(text="my assistant"), call)))
    plain = redactor.plain(entry)
    assert plain["kind"] == "message"
    assert plain["message"]["role"] == "assistant"
    text, made = plain["message"]["parts"]
    assert text == {"type": "text", "text": "my ‹redacted:A_KEY›"}
    assert made["arguments"] == {
        "‹redacted:C_KEY›": ["‹redacted:C_KEY›", {"x": "‹redacted:C_KEY›"}],
        "‹redacted:B_KEY›": "‹redacted:B_KEY›",
    }
    assert MessageAdded.model_validate(plain).message.role == "assistant"


def test_keys_that_become_alike_lose_no_value():
    assert REDACTOR.plain({"sk-" + "a" * 30: 1, "sk-" + "b" * 30: 2}) == {
        "‹redacted:pattern›": 1,
        "‹redacted:pattern›#2": 2,
    }


def test_what_json_does_not_have_is_spelt_out():
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    outcome = CallOutcome(
        result=Result(call_id="c", name="bash", content="\udc80\ud800 ok \0 \u2028"),
        duration_s=0.5,
        details={"nan": float("nan"), "inf": float("-inf"), "big": 1 << 5000, "\udcff": 1, "deep": deep},
    )
    plain = REDACTOR.plain(outcome)
    text = json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    back = json.loads(text)
    assert back["result"]["content"] == "\\udc80\\ud800 ok \0 \u2028"
    assert back["details"]["nan"] == "nan"
    assert back["details"]["big"] == hex(1 << 5000)
    assert "\\udcff" in back["details"]
    assert text.count(b"[") <= DEEPEST
    with pytest.raises(TypeError, match="bytes is not a JSON value"):
        REDACTOR.plain({"x": b"raw"})


def test_an_event_without_secrets_comes_out_as_it_is():
    notice = Notice(level="info", code="x", text="nothing to see")
    assert REDACTOR.plain(notice) == notice.model_dump()


def test_credentials_of_the_host_are_told_by_their_names():
    environ = {
        "ANTHROPIC_API_KEY": "a-key-of-sorts",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "github_token": "t",
        "PGPASSWORD": "p",
        "MYSQL_PWD": "m",
        "GOOGLE_APPLICATION_CREDENTIALS": "/c.json",
        "EMPTY_SECRET": "",
        "PWD": "/home/me",
        "OLDPWD": "/",
        "KEYBOARD": "us",
        "PATH": "/bin",
    }
    assert set(host_secrets(environ)) == {
        "ANTHROPIC_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "github_token",
        "PGPASSWORD",
        "MYSQL_PWD",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }


FRAGMENTS = st.sampled_from(
    [
        SECRET,
        "hunter2-hunter2",
        "hunter2-",
        base64.b64encode(SECRET.encode()).decode(),
        quote(SECRET),
        KEY_BLOCK,
        KEY_BLOCK[:70],
        "-----BEGIN PRIVATE KEY-----\nhello there you\n",
        "sk-ant-api03-abcdefghijklmnop_qrst",
        "ghp_" + "a1" * 18,
        "Authorization: Bearer abcdefgh",
        "https://u:password@h/",
        "ta",
        " ",
        "\n",
        '"',
        "é",
        "世界",
        "plain words here",
        "-----END",
    ]
)
PIECES = st.lists(st.one_of(FRAGMENTS, st.text(max_size=5)), max_size=12)


@given(PIECES, st.lists(st.integers(1, 40), min_size=1, max_size=50))
@example(["ta", "sk-ant-api03-abcdefghijklmnop_qrst"], [2])
@example([KEY_BLOCK], [1])
@example(["hunter2-hunter", "hunter2-hunter2"], [3])
def test_text_in_pieces_is_redacted_as_if_it_came_whole(fragments, cuts):
    whole = "".join(fragments)
    stream = REDACTOR.stream()
    shown, position, turn = "", 0, 0
    while position < len(whole):
        size = cuts[turn % len(cuts)]
        shown += stream.feed(whole[position : position + size])
        position, turn = position + size, turn + 1
    shown += stream.flush()
    assert shown == REDACTOR.text(whole)
    assert SECRET not in shown
    assert "hunter2-hunter2" not in shown


def test_a_stream_releases_words_as_they_are_finished():
    stream = REDACTOR.stream()
    shown = [stream.feed(piece) for piece in ("Let ", "me lo", "ok at", " it.\n")]
    assert shown == ["Let ", "me ", "look ", "at it.\n"]
    assert stream.feed("-----BEGIN PRIVATE KEY-----\nis how such a thing begins. ") != ""


def test_a_secret_is_caught_however_long_the_text_without_a_space():
    stream = REDACTOR.stream()
    shown = "".join(stream.feed(piece) for piece in ("x" * 20_000, "hunter2", "-hun", "ter2", "y" * 20_000))
    shown += stream.flush()
    assert shown == "x" * 20_000 + "‹redacted:OTHER_TOKEN›" + "y" * 20_000
