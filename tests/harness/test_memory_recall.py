"""`recall` and the index behind it: every page comes back whole, whatever became of the index."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_double import bash, calls, policy_with

from harness.errors import JournalError
from harness.events import CallOutcome, Checkpointed, MessageAdded, Notice, Rewound
from harness.journal.record import FILE
from harness.journal.redact import Redactor
from harness.journal.writer import Journal, read
from harness.memory.index import INDEX, Index, phrased
from harness.memory.rebuild import Rebuild
from harness.memory.words import LINE_CHARS, lines_of, text_of
from harness.messages import Call, Message, Result, Text, Thinking, user

NOISE = "".join(f"nothing to see in row {number}\n" for number in range(300))


def asked(*parts) -> MessageAdded:
    return MessageAdded(message=Message(role="assistant", parts=parts))


def came(call_id: str, content: str, name: str = "bash") -> CallOutcome:
    return CallOutcome(result=Result(call_id=call_id, name=name, content=content), duration_s=0.1)


CONVERSATION = (
    MessageAdded(message=user("Find the port of the database.")),
    asked(
        Thinking(text="hm", provider="scripted", block={"x": 1}),
        Text(text="I look."),
        Call(id="a", name="bash", arguments={"command": "cat etc/app.conf"}),
        Call(id="b", name="read", arguments={"path": "/workspace/notes.md"}),
    ),
    # Out of order, as calls that ran together end.
    came("b", NOISE + "Decision: keep the retries at seven.\n" + NOISE, "read"),
    Notice(level="info", code="x", text="database"),
    came("a", "host = db.internal\nport = 54321\npassword = hunter2-canary\n"),
    MessageAdded(message=user("And what was decided?")),
    asked(Text(text="Seven retries.")),
)


@pytest.fixture
async def journal(tmp_path):
    made = Journal.create(tmp_path / "s", redactor=Redactor({"PASSWORD": "hunter2-canary"}))
    await made.append_many(CONVERSATION)
    yield made
    made.close()


def ids(found) -> list[str]:
    return [page.id for page in found]


async def test_the_pages_have_the_table_s_numbers_and_the_journal_s_text(journal):
    told, index = Rebuild(), Index(journal.directory)
    for record in read(journal.directory):
        told.feed(record.entry)
    told.memory.table.take(told.messages)
    pages = told.memory.table.pages
    assert [page.kind for page in pages] == [
        *("user", "thinking", "model", "call", "call", "result", "result", "user", "model")
    ]
    for page in pages:
        found = index.page(page.id)
        assert (found.kind, found.name, found.turn) == (page.kind, page.name, page.used)
        assert found.text == text_of(told.memory.table.part(page))
    assert index.page("p10") is None
    assert "hunter2" not in index.page("p6").text
    assert "‹redacted:PASSWORD›" in index.page("p6").text


async def test_a_natural_question_finds_its_page_first(journal):
    index = Index(journal.directory)
    assert ids(index.search("which port has the db.internal host?", 3))[0] == "p6"
    assert "p7" in ids(index.search("how many retries were decided", 3))
    assert ids(index.search("app.conf", 3)) == ["p4"]
    assert index.search("hunter2", 3) == []
    assert index.search("quetzalcoatl", 3) == []


@pytest.mark.parametrize(
    ("written", "asked_for"),
    [
        ("決定:漢字の表はそのまま残す。", "漢字"),
        ("ตกลงใช้ฐานข้อมูลเดิม", "ข้อมูล"),
        ("重试次数设为七次", "重试 次数"),
    ],
)
async def test_words_are_found_in_scripts_that_put_no_space_between_them(journal, written, asked_for):
    pair = asked(*(Call(id=name, name="bash", arguments={"command": "cat"}) for name in "cd"))
    await journal.append_many([pair, came("c", f"{NOISE}{written}\n"), came("d", NOISE + "字漢\n")])
    (found,) = Index(journal.directory).search(asked_for, 3)
    assert written in found.text


async def test_what_came_since_is_found_at_once(journal):
    index = Index(journal.directory)
    assert index.search("zeppelin", 3) == []
    await journal.append(asked(Text(text="A zeppelin.")))
    assert ids(index.search("zeppelin", 3)) == ["p10"]


async def test_what_was_taken_back_is_not_found_and_its_numbers_are_given_again(journal):
    def kept(number):
        return Checkpointed(number=number, digest="", files=0, bytes=0)

    def back(to):
        return Rewound(to=to, digest="", removed=0, made=0)

    index = Index(journal.directory)
    await journal.append_many([kept(1), asked(Text(text="A zeppelin.")), kept(2)])
    assert ids(index.search("zeppelin", 3)) == ["p10"]
    await journal.append_many([back(1), asked(Text(text="A balloon."))])
    for reader in (index, Index(journal.directory)):
        assert index.search("zeppelin", 3) == []
        assert reader.page("p10").text == "A balloon."
        (journal.directory / INDEX).unlink()
    await journal.append(back(2))
    assert index.page("p10").text == "A zeppelin."
    assert ids(index.search("54321", 3)) == ["p6"]
    told = Rebuild()
    for record in read(journal.directory):
        told.feed(record.entry)
    told.memory.table.take(told.messages)
    assert [page.id for page in told.memory.table.pages if index.page(page.id) is None] == []


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_a_query_is_words_whatever_stands_in_it(query):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    phrases = phrased(query)
    if phrases:
        db.execute("SELECT * FROM t WHERE t MATCH ?", (phrases.encode(errors="replace").decode(),)).fetchall()
    db.close()


@pytest.mark.parametrize(
    "query", ['"', "port AND", "NEAR(a b", "text:port", "* ^ port", "port\0x", "-port", "\ud800 port"]
)
async def test_the_index_s_own_language_means_nothing_in_a_query(journal, query):
    found = ids(Index(journal.directory).search(query, 5))
    assert ("p6" in found) == ("port" in query)


async def test_an_index_that_is_missing_damaged_old_or_another_s_is_made_again(journal, tmp_path):
    path = journal.directory / INDEX
    other = Journal.create(tmp_path / "other")
    await other.append_many([*CONVERSATION, *CONVERSATION])
    other.close()
    Index(other.directory).page("p1")

    def old():
        Index(journal.directory).page("p1")
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 0")

    def linked():
        (tmp_path / "precious").write_text("x")
        path.symlink_to(tmp_path / "precious")

    def half():
        Index(journal.directory).page("p1")
        with open(path, "r+b") as file:
            file.truncate(5000)

    def changed():
        Index(journal.directory).page("p1")
        with sqlite3.connect(path) as db:
            db.execute("UPDATE page SET at = 'x', turn = 'y', place = NULL")

    for spoil in (
        lambda: None,
        changed,
        lambda: path.write_bytes(b"no database" * 1000),
        lambda: path.write_bytes((other.directory / INDEX).read_bytes()),
        half,
        old,
        linked,
    ):
        path.unlink(missing_ok=True)
        spoil()
        assert ids(Index(journal.directory).search("54321", 5)) == ["p6"]
        assert path.lstat().st_mode & 0o177777 == 0o100600
    assert (tmp_path / "precious").read_text() == "x"
    assert [one.name for one in journal.directory.glob(f"{INDEX}*")] == [INDEX]


async def test_without_room_for_the_index_pages_are_found_all_the_same(journal):
    (journal.directory / INDEX).mkdir()
    index = Index(journal.directory)
    assert ids(index.search("54321", 5)) == ["p6"]
    await journal.append(asked(Text(text="A zeppelin.")))
    assert ids(index.search("zeppelin", 5)) == ["p10"]


async def test_an_index_of_a_journal_of_the_very_same_size_is_not_this_one_s(tmp_path):
    for name in ("zeppelin", "windmill"):
        written = Journal.create(tmp_path / name)
        await written.append(MessageAdded(message=user(f"A {name}.")))
        written.close()
        assert Index(tmp_path / name).search(name, 3)
    (tmp_path / "zeppelin" / INDEX).replace(tmp_path / "windmill" / INDEX)
    index = Index(tmp_path / "windmill")
    assert index.search("zeppelin", 3) == []
    assert ids(index.search("windmill", 3)) == ["p1"]


async def test_a_journal_that_was_edited_is_not_quoted(journal):
    path = journal.directory / FILE
    index = Index(journal.directory)
    assert "54321" in index.page("p6").text
    path.write_bytes(path.read_bytes().replace(b"54321", b"12345"))
    for reader in (index, Index(journal.directory)):
        with pytest.raises(JournalError, match="damaged at line 5"):
            reader.page("p6")


def test_long_lines_come_in_pieces_so_that_all_of_them_can_be_reached():
    text = "a" * (LINE_CHARS * 2 + 1) + "\n\nend\n"
    assert [len(line) for line in lines_of(text)] == [LINE_CHARS, LINE_CHARS, 1, 0, 3]


@pytest.fixture
def recalling(make_session, tmp_path):
    """A session with a real journal, whose calls these are."""
    journal = Journal.create(tmp_path / "s", redactor=Redactor({"PASSWORD": "hunter2-canary"}))

    def make(*replies, **more):
        return make_session([*replies, "done"], journal=journal, archive=Index(journal.directory), **more)

    yield make
    journal.close()


async def test_a_result_that_was_evicted_comes_back_byte_for_byte_and_in_parts(recalling):
    async def big(process):
        await process.out("".join(f"{process.argv[1]} row {number}\n" for number in range(200)))
        return 0

    run = recalling(
        *(calls(bash(f"big n{number}")) for number in range(12)),
        calls(("recall", {"query": "n1 row 77"}), ("recall", {"page": "p3"})),
        calls(
            ("recall", {"page": "p3", "offset": 199, "limit": 1}), ("recall", {"page": "p3", "offset": 999})
        ),
        commands={"big": big},
        policy=policy_with(context_tokens=4_000),
    )
    assert (await run.turn()).status == "done"
    table = run.session.memory.table
    assert table.page("p3").state == "evicted"
    assert table.page("p3").used >= 13
    whole = run.results[0].content
    assert "row 199" in whole
    searched, paged, part, beyond = run.results[12:16]
    assert "n1 row 77" in searched.content
    assert (
        paged.content
        == f"[page p3: the result of bash, turn 1, {len(whole):,} characters; lines 1 to 201 of 201]\n{whole}"
    )
    assert part.content.split("\n")[1:] == ["n0 row 198", "[more lines follow; go on with offset 200]"]
    assert beyond.error == "bad_arguments"
    # Recalled text is a page of its own, and no answer to a search.
    assert {page.name for page in Index(run.journal.directory).search("row", 99)} == {"bash"}


async def test_a_search_looks_into_its_pages_for_as_many_words_as_it_looked_for_them_by(recalling):
    words = [f"word{number}" for number in range(40)]
    noise = "nothing\n" * 9
    run = recalling(
        calls(("write", {"path": "a", "content": f"{words[0]}\n{noise}{' '.join(words[32:])}\n"})),
        calls(("recall", {"query": " ".join(words)})),
    )
    await run.turn()
    assert words[0] in run.results[1].content
    assert words[39] not in run.results[1].content


async def test_recall_shows_no_secret_and_stays_within_the_output_limit(recalling):
    run = recalling(
        calls(bash("printf '%s' hunter2-canary; yes | head -c 3000")),
        calls(("recall", {"page": "p3"}), ("recall", {"query": "hunter2-canary yes"})),
        policy=policy_with(output_bytes=1_000),
    )
    await run.turn()
    page, search = run.results[1:3]
    assert "hunter2" not in page.content + search.content.replace("[no page", "")
    assert len(page.content) < 1_300
    assert "go on with offset" in page.content


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "bad_arguments"),
        ({"page": "p1", "query": "x"}, "bad_arguments"),
        ({"page": "p99"}, "not_found"),
        ({"page": "../../etc/passwd"}, "not_found"),
        ({"query": "x" * 2000}, "bad_arguments"),
        ({"query": ""}, "bad_arguments"),
        ({"query": "***"}, None),
    ],
)
async def test_what_cannot_be_recalled_is_said(recalling, arguments, error):
    run = recalling(calls(("recall", arguments)))
    await run.turn()
    assert run.results[0].error == error


async def test_a_session_without_a_journal_says_so(call_once):
    assert (await call_once("recall", {"page": "p1"})).error == "failed"
