"""A seccomp profile as the program that the kernel runs: for where an engine does not install it itself.

gVisor keeps the filter of a container's first process and gives none to a program that the engine starts
beside it. Only what our own profiles use is known: other operators and actions are errors, never left out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.posture.numbers import numbers

ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
"""AUDIT_ARCH_*."""
ALLOW, KILL, ERRNO, EPERM = 0x7FFF_0000, 0x8000_0000, 0x0005_0000, 1
LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`."""
MAX_INSTRUCTIONS = 4096

Instruction = tuple[int, int, int, int]


def assembled(profile: str, machine: str) -> bytes:
    """`struct sock_filter` after `struct sock_filter`. ValueError for what cannot be said exactly."""
    known = numbers(machine)
    parsed = json.loads(profile)
    if parsed["defaultAction"] != "SCMP_ACT_ERRNO" or "defaultErrnoRet" in parsed:
        raise ValueError("a profile refuses what it does not name, with EPERM")
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
    ]
    # What is allowed anywhere is allowed, wherever else it is refused by name.
    for rule in sorted(parsed["syscalls"], key=lambda rule: bool(rule["action"] != "SCMP_ACT_ALLOW")):
        for name in rule["names"]:
            if name in known:
                program += _checked(known[name], rule)
    program.append((RETURN, 0, 0, ERRNO | EPERM))
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError("a profile is longer than the kernel takes")
    return b"".join(struct.pack("<HBBI", *one) for one in program)


def _checked(number: int, rule: Mapping[str, Any]) -> Sequence[Instruction]:
    """One rule for one number: passed over unless the number and all conditions hold."""
    tests: list[tuple[list[Instruction], int]] = [([(LOAD, 0, 0, NUMBER)], number)]
    for condition in rule.get("args") or ():
        tests += _condition(condition)
    size = sum(len(before) + 1 for before, _ in tests)
    body: list[Instruction] = []
    for before, value in tests:
        body += before
        # To behind the rule's own RETURN.
        body.append((EQUAL, 0, size - len(body), value))
    return [*body, (RETURN, 0, 0, _action(rule))]


def _condition(condition: Mapping[str, Any]) -> list[tuple[list[Instruction], int]]:
    """All 64 bits of an argument, half by half."""
    if condition["op"] == "SCMP_CMP_EQ":
        mask, value = (1 << 64) - 1, condition["value"]
    elif condition["op"] == "SCMP_CMP_MASKED_EQ":
        mask, value = condition["value"], condition.get("valueTwo", 0)
    else:
        raise ValueError(f"a profile's condition {condition['op']} is not known here")
    tests: list[tuple[list[Instruction], int]] = []
    for half in (0, 1):
        bits = mask >> 32 * half & 0xFFFF_FFFF
        load = [(LOAD, 0, 0, ARGUMENTS + 8 * condition["index"] + 4 * half), (AND, 0, 0, bits)]
        tests.append((load, value >> 32 * half & 0xFFFF_FFFF))
    return tests


def _action(rule: Mapping[str, Any]) -> int:
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    if rule["action"] == "SCMP_ACT_ERRNO":
        return ERRNO | int(rule.get("errnoRet", EPERM))
    raise ValueError(f"a profile's action {rule['action']} is not known here")
