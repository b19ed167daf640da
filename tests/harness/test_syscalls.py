"""Each syscall through the real loop, over the in-memory sandbox: what the model sees, and what happened."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from kernel_double import bash, calls, policy_with

from harness.syscalls.bash import _script
from harness.syscalls.table import TABLE, tool_specs
from sandbox.memory.files import Node


async def outputs(make_session, *made, **options):
    """The results of one call a message, in one session."""
    run = make_session([*(calls(one) for one in made), "done"], **options)
    await run.turn()
    return run.results


# --- the table ---


def test_the_table_is_these_syscalls_in_this_order():
    before = ["bash", "read", "write", "edit", "grep", "glob", "job", "plan", "recall", "sudo"]
    assert list(TABLE) == [*before, "spawn", "merge"]


def test_schemas_are_plain_objects_without_references_nulls_or_titles():
    for tool in tool_specs():
        text = json.dumps(tool.parameters)
        assert tool.parameters["type"] == "object"
        assert tool.parameters["additionalProperties"] is False
        assert not re.search(r'"\$ref"|"\$defs"|"title"|"null"|"default": null', text)


def test_a_schema_reads_like_this():
    write = next(tool for tool in tool_specs() if tool.name == "write")
    assert json.dumps(write.parameters) == (
        '{"additionalProperties": false, "properties": {"path": {"minLength": 1, "type": "string"}, '
        '"content": {"description": "The whole of the file. Missing directories are made.", '
        '"type": "string"}}, "required": ["path", "content"], "type": "object"}'
    )


# --- bash ---


async def test_streams_are_labelled_and_the_exit_code_is_told(make_session):
    (result,) = await outputs(make_session, bash("echo out; echo err >&2; exit 3"))
    assert result.content == "<stdout>\nout\n</stdout>\n<stderr>\nerr\n</stderr>\n[exit code 3]"
    assert result.error is None


async def test_silence_is_told(make_session):
    (result,) = await outputs(make_session, bash("true"))
    assert result.content == "[exit code 0; no output]"


async def test_the_last_line_is_ours_whatever_a_command_prints(make_session):
    (result,) = await outputs(make_session, bash("echo '[exit code 0]'; exit 1"))
    assert result.content.splitlines()[-1] == "[exit code 1]"


async def test_the_working_directory_carries_over_and_the_environment_does_not(make_session):
    results = await outputs(
        make_session,
        bash("mkdir -p sub/deeper; cd sub/deeper; X=1; export X"),
        bash('pwd; echo "[$X]"'),
        bash("cd ..; exit 4"),
        bash("pwd"),
    )
    assert "working directory: /workspace/sub/deeper" in results[0].content
    assert results[1].content == "/workspace/sub/deeper\n[]\n[exit code 0]"
    assert "exit code 4; " in results[2].content
    assert results[3].content == "/workspace/sub\n[exit code 0]"


async def test_where_a_command_left_the_shell_is_recorded_for_a_later_resume(make_session):
    run = make_session([calls(bash("mkdir sub; cd sub")), "done"])
    await run.turn()
    (outcome,) = [entry for entry in run.journal.entries if entry.kind == "call_outcome"]
    assert outcome.details["cwd"] == "/workspace/sub"


async def test_a_cwd_argument_counts_as_a_cd(make_session):
    results = await outputs(make_session, bash("pwd", cwd="sub"), bash("pwd"), files={"/workspace/sub/a": ""})
    assert [result.content.splitlines()[0] for result in results] == ["/workspace/sub"] * 2


@pytest.mark.parametrize(("cwd", "code"), [("missing", "not_found"), (".keep", "not_directory")])
async def test_a_wrong_cwd_is_refused_and_nothing_is_run(make_session, cwd, code):
    results = await outputs(make_session, bash("touch /workspace/ran", cwd=cwd), bash("ls"))
    assert results[0].error == code
    assert "ran" not in results[1].content
    assert results[1].error is None


async def test_when_the_working_directory_is_gone_nothing_is_run_elsewhere_unasked(make_session):
    results = await outputs(
        make_session, bash("mkdir d; cd d"), bash("rm -r ../d"), bash("touch precious"), bash("pwd; ls")
    )
    assert results[2].error == "not_found"
    assert "is /workspace now. Nothing was run" in results[2].content
    assert results[3].content.startswith("/workspace\n")
    assert "precious" not in results[3].content


@pytest.mark.parametrize(
    "lie",
    [b"relative\n", b"/a\0b\n", b"/" + b"x" * 5000, b"/\377\376\n", b""],
    ids=["relative", "nul", "long", "utf8", "empty"],
)
async def test_a_lie_about_the_directory_is_not_believed(make_session, lie):
    run = make_session([calls(bash("true")), calls(bash("pwd")), "done"])
    read = run.box.read_file

    async def lying(path, offset=0, limit=None):
        return lie[:limit] if path.startswith("/tmp/.cwd-") else await read(path, offset, limit)

    run.box.read_file = lying
    await run.turn()
    assert "could not be read back" in run.results[0].content
    assert run.results[1].content.startswith("/workspace\n[exit code 0")


async def test_a_fifo_where_the_directory_is_reported_does_no_harm(make_session):
    results = await outputs(make_session, bash("mkfifo /tmp/.cwd-0000000000000001"), bash("pwd"))
    assert results[1].content == "/workspace\n[exit code 0]"


def test_the_shell_text_around_a_command_survives_odd_directories():
    assert _script("/it's here", "/tmp/x").endswith('EXIT; eval "shift; $1"')


async def test_a_command_sees_no_parameters_of_ours(make_session):
    (result,) = await outputs(make_session, bash('echo "$# [$1]"'))
    assert result.content == "0 []\n[exit code 0]"


async def test_standard_input_is_empty(make_session):
    (result,) = await outputs(make_session, bash("cat; echo end"))
    assert result.content == "end\n[exit code 0]"


async def test_a_command_past_its_time_is_ended_and_its_output_kept(make_session):
    (result,) = await outputs(make_session, bash("echo begun; sleep 30", timeout_s=0.2))
    assert result.error == "timed_out"
    assert result.content.startswith("begun\n[timed out after 0.2 s")


async def test_a_model_cannot_ask_for_more_time_than_the_policy_gives(make_session):
    (result,) = await outputs(
        make_session, bash("sleep 30", timeout_s=9999), policy=policy_with(command_s=0.2)
    )
    assert result.error == "timed_out"


async def test_long_output_is_head_and_tail_with_exact_counts_and_a_file_that_read_opens(make_session):
    command = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$(($i+1)); done"
    run = make_session([calls(bash(command)), "done"], policy=policy_with(output_bytes=100))
    await run.turn()
    content = run.results[0].content
    total = sum(len(f"line {number}\n") for number in range(300))
    assert content.startswith("line 0\nline 1\n")
    assert "line 299\n[exit code 0]" in content
    assert f"{total - 100:,} of {total:,} bytes of stdout are left out here" in content
    path = re.search(r"in (/\S+),", content)[1]
    assert len(await run.box.read_file(path)) == total


async def test_invalid_utf8_and_nul_are_shown_and_fit_into_json(make_session):
    (result,) = await outputs(make_session, bash("printf 'a\\377\\000b'"))
    assert result.content == "a\\xff\x00b\n[exit code 0]"
    assert json.loads(result.model_dump_json())["content"] == result.content


async def missing(process):
    return 127


async def test_an_image_without_bash_is_served_by_sh(make_session):
    (result,) = await outputs(make_session, bash("echo hi"), commands={"bash": missing})
    assert result.content == "hi\n[exit code 0]"


async def test_an_image_without_any_shell_says_so(make_session):
    (result,) = await outputs(make_session, bash("echo hi"), commands={"bash": missing, "sh": missing})
    assert result.error == "not_found"


@pytest.mark.parametrize(
    ("command", "code"),
    [("x" * 100_001, "too_large"), ("a\0b", "bad_arguments")],
)
async def test_commands_that_cannot_be_run_are_refused(call_once, command, code):
    result = await call_once("bash", {"command": command})
    assert result.error == code


# --- jobs ---


async def test_what_is_not_finished_in_time_becomes_a_job_that_is_polled_to_its_end(make_session):
    results = await outputs(
        make_session,
        bash("echo one; sleep 0.5; echo two"),
        ("job", {"action": "poll", "job": "job-1", "wait_s": 20}),
        ("job", {"action": "poll", "job": "job-1", "wait_s": 20}),
        ("job", {"action": "poll", "job": "job-1"}),
        policy=policy_with(yield_s=0.3),
    )
    assert results[0].content.startswith("one\n[still running as job-1;")
    assert results[1].content == "two\n[job-1 has ended: exit code 0]"
    assert results[2].content == results[3].content == "[job-1 has ended: exit code 0]"


async def test_a_background_job_takes_input_and_ends_at_its_end(make_session):
    results = await outputs(
        make_session,
        bash("cat; echo closed", background=True),
        ("job", {"action": "input", "job": "job-1", "input": "typed\n", "wait_s": 0.2}),
        ("job", {"action": "input", "job": "job-1", "close_stdin": True, "wait_s": 20}),
    )
    assert "still running as job-1" in results[0].content
    assert results[1].content.startswith("typed\n[job-1 still runs")
    assert results[2].content == "closed\n[job-1 has ended: exit code 0]"


async def test_a_job_can_be_ended_and_what_it_wrote_is_shown(make_session):
    run = make_session(
        [
            calls(bash("echo up; while true; do sleep 1; done", background=True)),
            calls(("job", {"action": "kill", "job": "job-1"})),
            calls(("job", {"action": "list"})),
            "done",
        ]
    )
    await run.turn()
    assert run.results[0].content.startswith("up\n[still running as job-1")
    assert run.results[1].error is None
    assert "job-1 has ended: cancelled" in run.results[1].content
    assert run.results[2].content == "job-1: ended: echo up; while true; do sleep 1; done"
    assert not await run.box.jobs()


async def test_processes_that_outlive_their_call_are_a_job_too(make_session):
    results = await outputs(
        make_session,
        bash("sleep 300 & echo started"),
        ("job", {"action": "list"}),
        ("job", {"action": "kill", "job": "job-1"}),
        ("job", {"action": "list"}),
    )
    assert "1 processes it started still run; `job` calls them job-1" in results[0].content
    assert results[1].content.startswith("job-1: 1 processes")
    assert results[3].content.startswith("job-1: ended")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"action": "poll", "job": "job-9"}, "not_found"),
        ({"action": "poll"}, "bad_arguments"),
        ({"action": "dance", "job": "job-1"}, "bad_arguments"),
    ],
)
async def test_a_wrong_job_is_refused(call_once, arguments, code):
    assert (await call_once("job", arguments)).error == code


async def test_a_foreground_job_takes_no_input(make_session):
    results = await outputs(
        make_session,
        bash("sleep 5"),
        ("job", {"action": "input", "job": "job-1", "input": "x"}),
        policy=policy_with(yield_s=0.05),
    )
    assert results[1].error == "failed"
    assert "background" in results[1].content


# --- read ---


async def test_read_numbers_lines_and_goes_on_where_it_is_told(make_session):
    text = "".join(f"l{number}\n" for number in range(1, 11))
    results = await outputs(
        make_session,
        ("read", {"path": "a", "limit": 2}),
        ("read", {"path": "/workspace/a", "offset": 10}),
        ("read", {"path": "./x/../a", "offset": 99}),
        files={"/workspace/a": text},
    )
    assert results[0].content == "     1\tl1\n     2\tl2\n[more lines follow; go on with offset 3]"
    assert results[1].content == "    10\tl10"
    assert results[2].content == "[/workspace/a has 10 lines; line 99 is past its end]"


async def test_read_is_bounded_in_bytes_and_by_line(make_session):
    results = await outputs(
        make_session,
        ("read", {"path": "wide"}),
        ("read", {"path": "endless"}),
        files={"/workspace/wide": "x" * 900 + "\n" + "y" * 900 + "\n", "/workspace/endless": "z" * 5_000_000},
        policy=policy_with(output_bytes=1_000),
    )
    assert results[0].content.endswith("[more lines follow; go on with offset 2]")
    assert "[… 4,998,000 more bytes in this line …]" in results[1].content
    assert len(results[1].content) < 2_200


async def test_a_line_across_two_pieces_of_a_file_is_one_line(make_session, monkeypatch):
    monkeypatch.setattr("harness.syscalls.read.CHUNK", 7)
    results = await outputs(
        make_session, ("read", {"path": "a"}), files={"/workspace/a": "first\nsecond line\nthird\nlast"}
    )
    assert results[0].content == "     1\tfirst\n     2\tsecond line\n     3\tthird\n     4\tlast"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing", "not_found"),
        ("blob", "not_text"),
        (".keep/x", "not_directory"),
        ("pipe", "special_file"),
        ("a\0b", "bad_arguments"),
    ],
)
async def test_what_cannot_be_read_says_why(make_session, path, code):
    run = make_session([calls(("read", {"path": path})), "done"], files={"/workspace/blob": b"ELF\0\1"})
    run.box.tree.put("/workspace/pipe", Node("fifo", 0o644))
    await run.turn()
    assert run.results[0].error == code


async def test_an_empty_file_and_a_directory_read_as_what_they_are(make_session):
    results = await outputs(
        make_session,
        ("read", {"path": ".keep"}),
        ("read", {"path": "."}),
        files={"/workspace/src/a.py": "x", "/workspace/b": "12345"},
    )
    assert results[0].content == "[/workspace/.keep is empty]"
    assert results[1].content == "/workspace is a directory:\n.keep  0 bytes\nb  5 bytes\nsrc/"


# --- write and edit ---


async def test_write_makes_directories_and_replaces_whole_files(make_session):
    run = make_session(
        [
            calls(("write", {"path": "new/dir/a", "content": "gr\u00fc\u00df\n"})),
            calls(("write", {"path": "new/dir/a", "content": ""})),
            "done",
        ]
    )
    await run.turn()
    assert run.results[0].content == "wrote 7 bytes to /workspace/new/dir/a"
    assert await run.box.read_file("/workspace/new/dir/a") == b""


async def test_write_refuses_links_and_directories(make_session):
    run = make_session(
        [
            calls(
                ("write", {"path": "link", "content": "x"}),
                ("write", {"path": "sub", "content": "x"}),
            ),
            "done",
        ],
        files={"/workspace/sub/a": ""},
    )
    run.box.tree.put("/workspace/link", Node("symlink", 0o777, target="/etc/passwd"))
    await run.turn()
    assert [result.error for result in run.results] == ["symlink", "is_directory"]


async def test_edit_changes_the_file_and_says_where(make_session):
    run = make_session(
        [
            calls(("edit", {"path": "a", "edits": [{"old": "b\n", "new": "B\n"}, {"old": "d", "new": "D"}]})),
            "done",
        ],
        files={"/workspace/a": "a\nb\nc\nd\n"},
    )
    await run.turn()
    assert run.results[0].content == "edited /workspace/a: 2 replacements, at lines 2, 4"
    assert await run.box.read_file("/workspace/a") == b"a\nB\nc\nD\n"


async def test_an_edit_that_does_not_fit_changes_nothing(make_session):
    run = make_session(
        [
            calls(("edit", {"path": "a", "edits": [{"old": "a", "new": "A"}, {"old": "zz", "new": "Z"}]})),
            "done",
        ],
        files={"/workspace/a": "a\nb\n"},
    )
    await run.turn()
    assert run.results[0].error == "no_match"
    assert await run.box.read_file("/workspace/a") == b"a\nb\n"


async def test_an_edit_never_overwrites_what_somebody_else_wrote_meanwhile(make_session):
    run = make_session(
        [calls(("edit", {"path": "a", "edits": [{"old": "a", "new": "A"}]})), "done"],
        files={"/workspace/a": "a\n"},
    )
    read = run.box.read_file

    async def read_then_changed(path, offset=0, limit=None):
        data = await read(path, offset, limit)
        await run.box.write_file("/workspace/a", b"a and more\n")
        return data

    run.box.read_file = read_then_changed
    await run.turn()
    assert run.results[0].error == "conflict"
    assert await read("/workspace/a") == b"a and more\n"


async def test_edits_of_one_file_in_one_message_are_done_one_after_the_other(make_session):
    edits = [("edit", {"path": "a", "edits": [{"old": f"<{n}>", "new": f"<{n}!>"}]}) for n in range(10)]
    run = make_session([calls(*edits), "done"], files={"/workspace/a": "".join(f"<{n}>" for n in range(10))})
    await run.turn()
    assert [result.error for result in run.results] == [None] * 10
    assert await run.box.read_file("/workspace/a") == "".join(f"<{n}!>" for n in range(10)).encode()


# --- glob and grep ---

TREE = {
    "/workspace/a.py": "import os\n",
    "/workspace/src/b.py": "x = 1\n",
    "/workspace/src/c.txt": "import os\n",
    "/workspace/.git/config.py": "",
}


async def test_glob_finds_by_name_and_leaves_git_alone(make_session):
    results = await outputs(
        make_session,
        ("glob", {"pattern": "*.py"}),
        ("glob", {"pattern": "*.py", "limit": 1}),
        ("glob", {"pattern": "*.c", "path": "src"}),
        ("glob", {"pattern": "*", "path": "nowhere"}),
        files=TREE,
    )
    assert results[0].content == "a.py\nsrc/b.py"
    assert results[1].content == "a.py\n[… 1 more; raise `limit` or narrow the pattern]"
    assert results[2].content == "[no file below /workspace/src matches *.c]"
    assert results[3].error == "not_found"


async def test_glob_can_order_by_age(make_session):
    run = make_session([calls(("glob", {"pattern": "*.py", "sort": "newest"})), "done"], files=TREE)
    await asyncio.sleep(0.01)
    await run.box.write_file("/workspace/src/b.py", b"newer")
    await run.turn()
    assert run.results[0].content == "src/b.py\na.py"


async def test_a_walk_is_bounded(make_session, monkeypatch):
    monkeypatch.setattr("harness.syscalls.glob.MAX_ENTRIES", 3)
    results = await outputs(make_session, ("glob", {"pattern": "*.py"}), files=TREE)
    assert "[stopped after" in results[0].content


def printing(text: str, exit_code: int = 0, err: str = ""):
    seen = []

    async def program(process):
        seen.append(list(process.argv))
        await process.out(text)
        await process.err(err)
        return exit_code

    return program, seen


def event(kind: str, path: object, number: int, line: object) -> str:
    data = {"path": path, "lines": line, "line_number": number}
    return json.dumps({"type": kind, "data": data}) + "\n"


async def test_grep_reads_ripgreps_events(make_session):
    text = (
        '{"type":"begin","data":{"path":{"text":"/workspace/a.py"}}}\n'
        + event("context", {"text": "/workspace/a.py"}, 1, {"text": "before\n"})
        + event("match", {"text": "/workspace/a.py"}, 2, {"text": "import os\n"})
        + event("match", {"bytes": "L3dvcmtzcGFjZS//"}, 7, {"bytes": "/2ltcG9ydAo="})
        + "no json at all\n[]\n{}\n"
    )
    program, seen = printing(text)
    results = await outputs(
        make_session,
        ("grep", {"pattern": "-import", "glob": "*.py", "context": 1, "ignore_case": True}),
        commands={"rg": program},
        files=TREE,
    )
    assert results[0].content == (
        "/workspace/a.py-1-before\n/workspace/a.py:2:import os\n/workspace/\\xff:7:\\xffimport"
    )
    assert seen[-1][-4:] == ["--regexp", "-import", "--", "/workspace"]
    assert "--no-config" in seen[-1]


async def test_grep_without_ripgrep_uses_find_and_grep(make_session):
    program, seen = printing("/workspace/a.py:1:import os\n")
    results = await outputs(
        make_session,
        ("grep", {"pattern": "import", "glob": "*.py"}),
        commands={"find": program},
        files=TREE,
    )
    assert results[0].content == "/workspace/a.py:1:import os"
    assert seen[0][:2] == ["find", "/workspace"]
    assert seen[0][-5:] == ["-e", "import", "--", "{}", "+"]


@pytest.mark.parametrize(
    ("exit_code", "err", "code", "says"),
    [
        (1, "", None, "[nothing matches in /workspace]"),
        (2, "regex parse error", "failed", "regex parse error"),
    ],
)
async def test_no_match_is_a_result_and_a_bad_pattern_an_error(make_session, exit_code, err, code, says):
    program, _ = printing("", exit_code, err)
    results = await outputs(make_session, ("grep", {"pattern": "("}), commands={"rg": program})
    assert results[0].error == code
    assert says in results[0].content


async def test_grep_stops_at_its_limit(make_session):
    text = "".join(event("match", {"text": "/workspace/a"}, number, {"text": "x\n"}) for number in range(50))
    program, _ = printing(text)
    results = await outputs(make_session, ("grep", {"pattern": "x", "limit": 3}), commands={"rg": program})
    assert results[0].content.count("/workspace/a:") == 3
    assert results[0].content.endswith("[more may match; narrow the search or raise `limit`]")


async def test_an_image_without_any_search_program_says_so(make_session):
    results = await outputs(make_session, ("grep", {"pattern": "x"}))
    assert results[0].error == "not_found"


# --- plan ---


async def test_a_plan_is_kept_and_shown(make_session):
    run = make_session(
        [
            calls(("plan", {"steps": [{"step": "look", "status": "done"}, {"step": "mend"}]})),
            calls(("plan", {"steps": [{"step": "x", "status": "finished"}]})),
            "done",
        ]
    )
    await run.turn()
    assert run.results[0].content == "[x] look\n[ ] mend"
    assert [step.step for step in run.session.plan] == ["look", "mend"]
    assert run.results[1].error == "bad_arguments"
