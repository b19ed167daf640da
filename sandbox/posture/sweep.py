"""The sweep: every system call that a seccomp profile refuses, as raw attempts that could do no harm.

Arguments are invalid on purpose (-1 is no descriptor, no address and no known flag), so that a call which
gets past the filter still fails, only not with the filter's answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from errno import ENOSYS, EPERM, EPROTONOSUPPORT
from functools import cache
from typing import Any

from sandbox.posture.numbers import numbers

INVALID = (0xFFFF_FFFF_FFFF_FFFF,) * 6
REFUSED = frozenset({EPERM, ENOSYS})
ENDED_BY = 1000
"""Added by the probe to the number of the signal that ended an attempt."""
SIGSYS = ENDED_BY + 31

PASSED_BY_THE_KERNEL = frozenset({"uretprobe", "uprobe"})
"""No filter sees them: they are of use only at addresses where the kernel itself has put them."""

SIGCHLD = 17
NAMESPACES = {
    "mount": 0x0002_0000, "cgroup": 0x0200_0000, "uts": 0x0400_0000, "ipc": 0x0800_0000,
    "user": 0x1000_0000, "pid": 0x2000_0000, "network": 0x4000_0000,
}  # fmt: skip
FAMILIES = 46
UNIX, INET, INET6, NETLINK, PACKET = 1, 2, 10, 16, 17
AUDIT = 9
"""Of netlink; that it is not there is what user tools want to hear."""
STREAM, DATAGRAM, RAW, SEQPACKET = 1, 2, 3, 5
RANDOM_PERSONALITIES = (0x0004_0000, 0x0040_0000, 0x0010_0000)
"""Addresses that are not random, memory that is executable when readable, a page at zero."""
X32 = 0x4000_0000
"""Marks a call of x86-64's other calling convention, which filters written for one forget."""
UNNAMED = (480, 500, 511, 999)


@dataclass(frozen=True)
class Attempt:
    name: str
    """For the reader of a difference."""
    number: int
    arguments: Sequence[int]
    refusals: frozenset[int] = REFUSED

    @property
    def question(self) -> str:
        return " ".join(["t", str(self.number), *(f"{value:#x}" for value in self.arguments)])


class Filter:
    """What a profile answers to a call, as the kernel would."""

    def __init__(self, profile: str) -> None:
        self._rules: dict[str, list[Mapping[str, Any]]] = {}
        for rule in json.loads(profile)["syscalls"]:
            for name in rule["names"]:
                self._rules.setdefault(name, []).append(rule)

    def names(self, name: str) -> bool:
        """Whether some call of this name is let through."""
        return any(rule["action"] == "SCMP_ACT_ALLOW" for rule in self._rules.get(name, ()))

    def allows(self, name: str, arguments: Sequence[int]) -> bool:
        return any(
            rule["action"] == "SCMP_ACT_ALLOW"
            and all(_holds(condition, arguments) for condition in rule.get("args") or ())
            for rule in self._rules.get(name, ())
        )


def _holds(condition: Mapping[str, Any], arguments: Sequence[int]) -> bool:
    given = arguments[condition["index"]]
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(given & condition["value"] == condition.get("valueTwo", 0))
    if condition["op"] == "SCMP_CMP_EQ":
        return bool(given == condition["value"])
    raise ValueError(f"a profile's condition {condition['op']} is not known here")


@cache
def attempts(profile: str, machine: str) -> tuple[Attempt, ...]:
    """Everything the profile (JSON text) refuses on this machine. KeyError for a machine it is not for."""
    return tuple(_refused(Filter(profile), numbers(machine), machine))


def _refused(rules: Filter, known: Mapping[str, int], machine: str) -> Iterator[Attempt]:
    for name, number in known.items():
        if not rules.names(name) and name not in PASSED_BY_THE_KERNEL:
            yield Attempt(name, number, INVALID)
    for number in UNNAMED:
        yield Attempt(f"number {number}", number, INVALID)
    for title, name, arguments in _special():
        if rules.names(name) and not rules.allows(name, arguments):
            audit = (name, arguments[0], arguments[-1]) == ("socket", NETLINK, AUDIT)
            yield Attempt(title, known[name], arguments, REFUSED | {EPROTONOSUPPORT} if audit else REFUSED)
    if machine == "x86_64":
        yield Attempt("getpid of x32", known["getpid"] | X32, (), REFUSED | {SIGSYS})
    # PID 1 holds the wire. It lets nobody look, whatever the profile says about tracing.
    yield Attempt("ptrace of PID 1", known["ptrace"], (0x4206, 1, 0, 0))


def _special() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Calls that a profile refuses for what they ask."""
    for namespace, flag in NAMESPACES.items():
        yield f"clone into a new {namespace} namespace", "clone", (flag | SIGCHLD, 0, 0, 0, 0, 0)
    for value in RANDOM_PERSONALITIES:
        yield f"personality {value:#x}", "personality", (value,)
    for family in range(FAMILIES):
        for kind in (STREAM, DATAGRAM, RAW, SEQPACKET):
            yield f"socket of family {family}, type {kind}", "socket", (family, kind, 0)
    for protocol in range(1, 23):
        yield f"netlink socket {protocol}", "socket", (NETLINK, RAW, protocol)
    for family in (INET, INET6):
        for protocol in (1, 2, 58, 132, 136, 255, 262):
            yield f"socket of family {family}, protocol {protocol}", "socket", (family, RAW, protocol)
