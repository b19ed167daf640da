"""What a decision costs: an ordinary call, a command line at its limits, and a megabyte of shell text."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Literal

from policies import Policy, load
from policies.decide import Decision, Request, decide
from policies.egress import decide_connection
from policies.schema import Network, Rule, When
from policies.shell import MAX_CHARS, MAX_COMMANDS
from tests.bench.figure import Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, interleaved

REPEAT = 100
"""Decisions in a sample: one alone is near what the clock can tell."""
ORDINARY = "git log --oneline -n 20 && cat a.txt | sort -n"
QUOTING = "git log --format='%h %s' -n 20 && cat a.txt | sort -n"
"""Takes the grammar as second reader, which is the slower one."""
MEGABYTE = 1 << 20
LARGE = {
    "words": "word " * (MEGABYTE // 5),
    "almost a refused word": "xrm " * (MEGABYTE // 4),
    "a first word again and again": "git " * (MEGABYTE // 4),
    "quotes": "'" * MEGABYTE,
    "one word": "x" * MEGABYTE,
    "substitutions": "$(" * (MEGABYTE // 2),
}
"""Each is a way to make a reader of shell text slow."""
LIMIT = {
    "commands": "ls -l a.txt;" * MAX_COMMANDS,
    "characters": "cat " + "a" * (MAX_CHARS - 4),
}


def policy() -> Policy:
    """Twenty rules of each kind: more than a person writes."""
    words = ["rm", "git push", "curl", "docker", "npm publish", "sudo", "ls", "git log", "cat", "sort"]
    actions: tuple[Literal["deny", "ask", "allow"], ...] = ("deny", "ask", "allow")
    rules = [
        Rule(syscall="bash", action=action, reason="R.", when=When(command=f"{word}{extra}"))
        for action in actions
        for extra in ("", " it")
        for word in words
        if action == "allow" or word not in ("ls", "git log", "cat", "sort")
    ]
    hosts = tuple(f"h{number}.example.test" for number in range(100))
    return Policy(name="bench", rules=tuple(rules), network=Network(allow=hosts))


async def measure(bench: Bench) -> list[Figure]:
    ours, rounds = policy(), bench.count(20, 3)
    series = await interleaved(
        rounds,
        Contender("44 rules, three commands", _bash(ours, ORDINARY, "allow", REPEAT)),
        Contender("the same, a word quoted", _bash(ours, QUOTING, "allow", REPEAT)),
        Contender("three plain commands, profile dev", _bash(load("dev"), ORDINARY, "allow", REPEAT)),
        Contender(
            "a connection, 100 hosts",
            _sample(lambda: decide_connection(ours, "h99.example.test", 443), REPEAT),
        ),
    )
    figures = [Figure(f"a decision: {one.name}", one, Target(0.000_2)) for one in series]
    for title, lines in (("at the parser's limits", LIMIT), ("a megabyte", LARGE)):
        taken = await interleaved(
            rounds, *(Contender(name, _bash(ours, line, None, 1)) for name, line in lines.items())
        )
        slowest = max(taken, key=lambda one: one.median)
        figures.append(Figure(f"a command of {title}: {slowest.name}", slowest, Target(0.1)))
    return figures


def _bash(over: Policy, line: str, action: str | None, repeat: int) -> Callable[[], Awaitable[float]]:
    if action is not None and decide(over, Request("bash", command=line)).action != action:
        raise NotMeasured(f"`{line}` should be {action}")
    return _sample(lambda: decide(over, Request("bash", command=line)), repeat)


def _sample(once: Callable[[], Decision], repeat: int) -> Callable[[], Awaitable[float]]:
    async def sample() -> float:
        started = time.perf_counter()
        for _ in range(repeat):
            once()
        return (time.perf_counter() - started) / repeat

    return sample
