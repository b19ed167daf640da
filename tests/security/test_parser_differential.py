"""Lines that the policy's parser claims to have read, against a real bash: it runs these words and no others.

The lines come from hypothesis; bash runs them in one throw-away container, with every command logged instead
of run (bash_oracle.sh). A line the parser calls unparsed is nobody's promise and is left out.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.shell import Words, parse
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from tests.security.conftest import policy_with

ORACLE = Path(__file__).with_name("bash_oracle.sh")
LINES_FILE = "/tmp/lines"
SHIMS = ("./shim", "/bin/shim", "../shim")
"""The only programs with a slash that the oracle can log."""

pytestmark = pytest.mark.docker


class Ran(NamedTuple):
    """What bash ran of a line, where all commands succeed and where all fail."""

    succeeding: Counter[Words]
    failing: Counter[Words]


class Oracle:
    def __init__(self, box: Sandbox) -> None:
        self.box = box

    async def ran(self, lines: list[str]) -> list[Ran]:
        await self.box.write_file(LINES_FILE, b"".join(line.encode() + b"\0" for line in lines))
        command = Command(
            ("bash", "-c", ORACLE.read_text(), "oracle", LINES_FILE), output_bytes=8 << 20, timeout_s=60
        )
        done = await self.box.run(command)
        assert done.exit_code == 0
        assert not done.truncated
        result = [Ran(Counter(), Counter()) for _ in lines]
        fields = iter(done.stdout.decode().split("\0")[:-1])
        for number in fields:
            status, count = int(next(fields)), int(next(fields))
            result[int(number)][status][tuple(next(fields) for _ in range(count))] += 1
        return result


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def bash(loop: asyncio.Runner) -> Iterator[Oracle]:
    async def one() -> AsyncIterator[Oracle]:
        async with open_sandbox(SandboxSpec(policy=policy_with("strict"))) as box:
            yield Oracle(box)

    opened = one()
    yield loop.run(anext(opened))
    loop.run(opened.aclose())


def differs(commands: tuple[Words, ...], ran: Ran) -> str:
    """How the words that were read differ from those that ran; empty if they are the same."""
    read = Counter(commands)
    for words in read | ran.succeeding | ran.failing:
        # After && or || a command runs in one of both, after anything else in each.
        least = max(ran.succeeding[words], ran.failing[words])
        if not least <= read[words] <= ran.succeeding[words] + ran.failing[words]:
            return (
                f"{words} was read {read[words]} times and ran {ran.succeeding[words]} and "
                f"{ran.failing[words]} times"
            )
    return ""


def loggable(commands: tuple[Words, ...]) -> bool:
    programs = {words[0] for words in commands}
    return "builtin" not in programs and all("/" not in name or name in SHIMS for name in programs)


QUOTED = st.text(
    st.characters(exclude_characters="\0'\"", exclude_categories=["Cs"])
    | st.sampled_from("$`\\!*?[]{}()<>;&|~# \t\n\r\x01\x7f\x1b=%"),
    max_size=4,
)
_PLAIN = """
    c1 c2 c3 echo eval exec . : true false test export set cd exit kill return break local declare alias time
    if then else fi for in do done case esac while until select function coproc ./shim /bin/shim ../shim
    - -x --long=v a=b A=1 A+=1 % %1 %x @ + += , 1 2 .. = a:b c@d e%f g+h / a/b _ __ 0x1 00
"""
PLAIN = st.sampled_from(_PLAIN.split())
SPECIAL = st.sampled_from(
    [*"$`\\!*?[](){}<>~#&^'\"", "\n\n", "\r", "\x0b", "\xa0", "é", "\x01", "\x7f", ";;"]
)
PIECE = st.one_of(
    PLAIN, PLAIN, PLAIN, QUOTED.map(lambda text: f"'{text}'"), QUOTED.map(lambda text: f'"{text}"')
)
WORD = st.lists(PIECE, min_size=1, max_size=3).map("".join) | PIECE | PIECE
SPACE = st.sampled_from([" ", " ", "  ", "\t"])
OPERATOR = st.sampled_from(["&&", "||", ";", "|", "\n", " && ", " | ", "; ", "\n\n", " ;\n"])
PROGRAM = st.sampled_from(["c1", "c2", *SHIMS, "echo", "eval", "exit", "'c 3'"]) | WORD
ARGUMENTS = st.lists(st.tuples(SPACE, WORD).map("".join), max_size=3).map("".join)
COMMAND = st.tuples(PROGRAM, ARGUMENTS).map("".join)
ORDERLY = st.lists(st.tuples(COMMAND, OPERATOR), min_size=1, max_size=4).map(
    lambda parts: "".join(text + operator for text, operator in parts[:-1]) + parts[-1][0]
)
WILD = st.lists(st.one_of(PIECE, PIECE, OPERATOR, SPACE, SPECIAL), min_size=1, max_size=9).map("".join)
LINES = st.lists(ORDERLY | ORDERLY | WILD, min_size=25, max_size=50)


def test_bash_runs_exactly_what_was_read(bash: Oracle, loop: asyncio.Runner) -> None:
    tried: Counter[str] = Counter()

    @settings(
        max_examples=35,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(LINES)
    def batch(lines: list[str]) -> None:
        read = [
            (line, parsed)
            for line in lines
            if (parsed := parse(line).commands) is not None and loggable(parsed)
        ]
        for (line, commands), ran in zip(read, loop.run(bash.ran([line for line, _ in read])), strict=True):
            assert not (how := differs(commands, ran)), f"{line!r}: {how}"
            tried["lines"] += 1
            tried.update(sign for sign in ("&&", "||", ";", "|", "\n", "'", '"') if sign in line)

    batch()
    assert tried["lines"] > 250
    assert min(tried.values()) > 10


def test_a_naive_reading_is_found_out(bash: Oracle, loop: asyncio.Runner) -> None:
    """The comparison can fail: each of these lines runs other words than a plain splitting says."""
    lines = [
        "c1 $x",
        "c1 # c2",
        "X=1 c1",
        "c1 && c2",
        "c1 'a' > f",
        "time c1",
        "%x",
        "(c1)",
        "! c1",
        "c1 ~",
        "c1 $(c2)",
    ]
    naive = [(tuple(shlex.split(line)),) for line in lines]
    ran = loop.run(bash.ran(lines))
    assert [line for line, read, it in zip(lines, naive, ran, strict=True) if not differs(read, it)] == []


def test_the_oracle_sees_builtins_paths_and_both_sides_of_an_operator(
    bash: Oracle, loop: asyncio.Runner
) -> None:
    line = "exit 1 && cd /; ./shim || eval 'c1'; \"\" | printf x"
    (ran,) = loop.run(bash.ran([line]))
    both = Counter({("exit", "1"): 1, ("./shim",): 1, ("",): 1, ("printf", "x"): 1})
    assert ran == Ran(both + Counter([("cd", "/")]), both + Counter([("eval", "c1")]))
