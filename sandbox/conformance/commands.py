"""The exec contract: how a command ends, and what it is given."""

from __future__ import annotations

import asyncio
import os

from sandbox.conformance.asking import (
    ask,
    beats,
    heartbeat,
    output,
    raises,
    same,
    scratch,
    settled,
    shell,
    true,
)
from sandbox.conformance.registry import check
from sandbox.protocol import Command, Sandbox

ALLOWED_NAMES = frozenset(
    {
        *("PATH", "HOME", "LANG", "LC_ALL", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "PWD"),
        "PYTHONPYCACHEPREFIX",
        *(
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
        ),
        *("SSL_CERT_FILE", "HOSTNAME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
    }
)
CANARY = "USERMODE_CONFORMANCE_CANARY"
ODD_WORDS = (
    *(
        "",
        " ",
        "a b",
        "two\nlines",
        "\t",
        "-n",
        "--",
        "-",
        "*",
        "?",
        "[a-z]",
        "~",
        "$HOME",
        "${HOME}",
        "`id`",
    ),
    *("$(id)", "'", '"', "\\", "\\n", "a;b", "a&b", "|", "!x", "#x", "%s", "ünïcödé", "日本語", "\U0001f600"),
    *("\x01\x7f", "not\udcffutf8", "trailing "),
)


@check("exec.exit-codes", "every exit code from 0 to 255 arrives as it was")
async def exit_codes(box: Sandbox) -> None:
    for start in range(0, 256, 16):
        asked = range(start, start + 16)
        done = await asyncio.gather(*(ask(box, f"exit {code}") for code in asked))
        same([one.exit_code for one in done], list(asked), "exit codes")
        same({one.signal for one in done}, {None}, "signals")


@check("exec.signals", "a command ended by a signal has that signal, and 128 + its number as exit code")
async def signals(box: Sandbox) -> None:
    for number in (1, 2, 3, 6, 9, 13, 14, 15):
        # `exec`, since a shell may handle a signal in its own way.
        done = await ask(box, f"(sleep 0.1; kill -{number} $$) & exec sleep 60")
        same((done.exit_code, done.signal), (128 + number, number), f"after kill -{number}")


@check("exec.code-is-no-signal", "an exit code above 128 that no signal caused is not taken for one")
async def code_is_no_signal(box: Sandbox) -> None:
    for text in ("exit 137", "sh -c 'kill -9 $$'; exit $?"):
        done = await ask(box, text)
        same((done.exit_code, done.signal), (137, None), text)


@check("exec.flags-clear", "a plain success sets none of the exceptional marks")
async def flags_clear(box: Sandbox) -> None:
    done = await ask(box, "echo fine")
    marks = (done.timed_out, done.cancelled, done.oom_killed, done.disk_exceeded, done.truncated, done.jobs)
    same(marks, (False, False, False, False, False, 0), "marks")


@check("exec.missing", "a program that does not exist is 127, by name and by path")
async def missing(box: Sandbox) -> None:
    for name in ("no-such-program-here", "/no/such/program", "./no-such-program"):
        done = await box.run(Command((name, "argument")))
        same((done.exit_code, done.signal), (127, None), name)
        true(name.encode() in done.stderr, f"standard error does not name {name}: {done.stderr!r}")


@check("exec.not-executable", "a file without the x bit and a directory are 126")
async def not_executable(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/plain", b"#!/bin/sh\nexit 0\n", mode=0o644)
    for name in (f"{there}/plain", there):
        same((await box.run(Command((name,)))).exit_code, 126, name)


@check("exec.bad-format", "an executable file that is no program is 126")
async def bad_format(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/garbage", b"\x01\x02\x03 no program", mode=0o755)
    same((await box.run(Command((f"{there}/garbage",)))).exit_code, 126, "exit code")


@check("exec.script", "a script with a first line naming its interpreter runs, with its arguments")
async def script(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/tool", b'#!/bin/sh\nprintf "%s|" "$@"\nexit 6\n', mode=0o755)
    done = await box.run(Command((f"{there}/tool", "a b", "c")))
    same((done.exit_code, done.stdout), (6, b"a b|c|"), "outcome")


@check(
    "exec.argv-exact",
    "arguments arrive byte for byte: spaces, newlines, quotes, globs, dashes, empty, not UTF-8",
)
async def argv_exact(box: Sandbox) -> None:
    found = await output(box, 'for a do printf "%s\\0" "$a"; done', arguments=ODD_WORDS)
    same(found.split(b"\0"), [*(os.fsencode(word) for word in ODD_WORDS), b""], "arguments")


@check("exec.argv-no-shell", "no shell stands between the caller and the program")
async def argv_no_shell(box: Sandbox) -> None:
    done = await box.run(Command(("echo", "$HOME", "*", ";", "echo", "x", ">/dev/null")))
    same(done.stdout, b"$HOME * ; echo x >/dev/null\n", "output")


@check("exec.long-argument", "an argument of 100 KiB arrives whole")
async def long_argument(box: Sandbox) -> None:
    same(
        (await output(box, 'printf %s "$1" | wc -c', arguments=("x" * 102_400,))).strip(), b"102400", "bytes"
    )


@check("exec.many-arguments", "a thousand arguments arrive")
async def many_arguments(box: Sandbox) -> None:
    words = tuple(str(number) for number in range(1000))
    same(await output(box, 'echo $# "${1000}"', arguments=words), b"1000 999\n", "count and last")


@check("exec.oversize", "over 128 KiB in one argument is a ValueError before anything runs")
async def oversize(box: Sandbox) -> None:
    there = await scratch(box)
    with raises(ValueError):
        await box.run(shell(f": > {there}/ran", arguments=("x" * 200_000,)))
    with raises(ValueError):
        await box.run(shell(f": > {there}/ran", arguments=("x" * 1000,) * 1000))
    same(await box.list_dir(there), [], "traces of a run")


@check("exec.unspeakable", "NUL bytes, no program at all and bad environment names are a ValueError")
async def unspeakable(box: Sandbox) -> None:
    for command in (
        Command(()),
        Command(("echo", "a\0b")),
        Command(("ec\0ho",)),
        Command(("true",), env={"NAME": "a\0b"}),
        Command(("true",), env={"NA\0ME": "a"}),
        Command(("true",), env={"NA=ME": "a"}),
        Command(("true",), env={"": "a"}),
        Command(("true",), cwd="/tmp\0"),
        Command(("true",), cwd="tmp"),
    ):
        with raises(ValueError):
            await box.run(command)


@check("exec.env-given", "the given environment arrives byte for byte")
async def env_given(box: Sandbox) -> None:
    given = {
        "PLAIN": "value",
        "EMPTY": "",
        "SPACES": " a  b ",
        "LINES": "a\nb",
        "EQUALS": "a=b=c",
        "UNI": "é日",
    }
    found = await output(
        box, 'printf "%s\\0" "$PLAIN" "${EMPTY-unset}" "$SPACES" "$LINES" "$EQUALS" "$UNI"', env=given
    )
    same(found.split(b"\0")[:-1], [value.encode() for value in given.values()], "values")


@check(
    "exec.env-allow-list",
    "beside what was given only allow-listed names are set, and nothing of the host leaks in",
)
async def env_allow_list(box: Sandbox) -> None:
    os.environ[CANARY] = "leaked"
    try:
        done = await box.run(Command(("env",), env={"GIVEN": "1"}))
    finally:
        del os.environ[CANARY]
    names = {line.split(b"=")[0].decode() for line in done.stdout.splitlines() if b"=" in line}
    true("GIVEN" in names and "PATH" in names and "HOME" in names, f"names: {names}")
    same(names - ALLOWED_NAMES - {"GIVEN"}, set(), "names that are not on the list")
    true(b"leaked" not in done.stdout, "the host's environment leaked")


@check("exec.env-override", "a given variable takes the place of the sandbox's own, for that call alone")
async def env_override(box: Sandbox) -> None:
    same(await output(box, 'echo "$HOME"', env={"HOME": "/tmp"}), b"/tmp\n", "HOME")
    true(await output(box, 'echo "$HOME"') != b"/tmp\n", "the override outlived its call")


@check("exec.path-lookup", "the program is looked up on the PATH the command is given")
async def path_lookup(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/only-here", b"#!/bin/sh\necho found\n", mode=0o755)
    done = await box.run(Command(("only-here",), env={"PATH": f"/nowhere:{there}:/usr/bin:/bin"}))
    same((done.exit_code, done.stdout), (0, b"found\n"), "outcome")
    same((await box.run(Command(("only-here",)))).exit_code, 127, "without that PATH")


@check("exec.cwd-default", "commands start in /workspace")
async def cwd_default(box: Sandbox) -> None:
    same(await output(box, "pwd"), b"/workspace\n", "directory")


@check("exec.cwd-given", "a given directory is where the command starts, odd names included")
async def cwd_given(box: Sandbox) -> None:
    there = await scratch(box)
    for name in ("plain", "with space", "-dash", "new\nline", "ü"):
        await box.write_file(f"{there}/{name}/mark", b"", parents=True)
        same(await output(box, "pwd", cwd=f"{there}/{name}"), f"{there}/{name}\n".encode(), "directory")


@check(
    "exec.cwd-bad", "a starting directory that is missing or none is an error of the call, not of the command"
)
async def cwd_bad(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/file", b"")
    with raises(FileNotFoundError):
        await box.run(Command(("true",), cwd=f"{there}/missing"))
    with raises(NotADirectoryError):
        await box.run(Command(("true",), cwd=f"{there}/file"))
    same((await box.run(Command(("true",)))).exit_code, 0, "the next command")


@check("exec.nothing-carries-over", "directory, variables and umask of one call do not reach the next")
async def nothing_carries_over(box: Sandbox) -> None:
    await output(box, "cd /tmp; export LEFT=over; umask 077")
    same(await output(box, 'pwd; echo "${LEFT-unset}"'), b"/workspace\nunset\n", "state")


@check("exec.no-stray-descriptors", "a command has descriptors 0, 1 and 2 and no other")
async def no_stray_descriptors(box: Sandbox) -> None:
    found = await output(box, "for n in 3 4 5 6 7 8 9; do if (: >&$n) 2>/dev/null; then echo $n; fi; done")
    same(found, b"", "descriptors that are open")


@check("exec.default-signals", "a command starts with default signal handling: a broken pipe ends its writer")
async def default_signals(box: Sandbox) -> None:
    done = await ask(box, "(yes; echo $? >&2) | head -n 1")
    same((done.stdout, done.stderr), (b"y\n", b"141\n"), "output and the writer's status")


@check("exec.own-group", "a command that kills its whole process group hurts no other")
async def own_group(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    other = await box.start(shell(heartbeat(path)))
    await beats(box, path)
    same((await ask(box, "kill -9 0; sleep 5")).signal, 9, "signal")
    await beats(box, path)
    await box.kill(other)
    await settled(box, other)


@check("exec.duration", "the duration is that of the command")
async def duration(box: Sandbox) -> None:
    took = (await ask(box, "sleep 0.4")).duration_s
    true(0.4 <= took < 60, f"duration of `sleep 0.4`: {took}")


@check("exec.rusage", "processor time and memory of the command are reported")
async def rusage(box: Sandbox) -> None:
    done = await ask(box, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    used = done.rusage.user_s + done.rusage.system_s
    true(0 < used <= 4 * done.duration_s + 1, f"processor time {used} in {done.duration_s} s")
    true(0 < done.rusage.max_rss_bytes < 1 << 30, f"memory {done.rusage.max_rss_bytes}")


@check("exec.eight-at-once", "eight commands at once have their own input, directory, environment and output")
async def eight_at_once(box: Sandbox) -> None:
    there = await scratch(box)
    for number in range(8):
        await box.write_file(f"{there}/{number}/mark", b"", parents=True)

    async def one(number: int) -> None:
        text = 'sleep 0.1; pwd; echo "$MINE"; cat; echo "$MINE" >&2'
        done = await ask(
            box, text, cwd=f"{there}/{number}", env={"MINE": str(number)}, stdin=b"in%d\n" % number
        )
        same(done.stdout, f"{there}/{number}\n{number}\nin{number}\n".encode(), "standard output")
        same(done.stderr, b"%d\n" % number, "standard error")

    await asyncio.gather(*(one(number) for number in range(8)))


@check("exec.fifty-at-once", "fifty quick commands at once all come back right")
async def fifty_at_once(box: Sandbox) -> None:
    done = await asyncio.gather(*(ask(box, f"echo {number}; exit {number}") for number in range(50)))
    same([one.exit_code for one in done], list(range(50)), "exit codes")
    same([one.stdout for one in done], [b"%d\n" % number for number in range(50)], "outputs")


@check("exec.hundreds-in-a-row", "three hundred commands in a row leave the sandbox as it was")
async def hundreds_in_a_row(box: Sandbox) -> None:
    for number in range(300):
        same((await ask(box, f"echo {number}")).stdout, b"%d\n" % number, "output")
    same(dict(await box.jobs()), {}, "processes left")


@check("stdin.default", "without input a command reads the end of file at once")
async def stdin_default(box: Sandbox) -> None:
    same((await output(box, "cat; cat | wc -c")).strip(), b"0", "bytes read")


@check("stdin.exact", "a mebibyte of every byte value arrives as it was")
async def stdin_exact(box: Sandbox) -> None:
    data = bytes(range(256)) * 4096
    done = await box.run(Command(("cat",), stdin=data, output_bytes=2 << 20))
    true(done.stdout == data, f"{len(done.stdout)} bytes came back, not the {len(data)} that went in")


@check("stdin.ignored", "a command that does not read its input, or not all of it, ends all the same")
async def stdin_ignored(box: Sandbox) -> None:
    data = b"x" * (4 << 20)
    same((await box.run(Command(("true",), stdin=data))).exit_code, 0, "true")
    same((await box.run(Command(("head", "-c", "3"), stdin=data))).stdout, b"xxx", "head")
