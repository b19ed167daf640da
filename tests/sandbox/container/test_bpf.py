"""A profile as the kernel's program answers exactly as the profile does."""

from __future__ import annotations

import json
import random
import struct

import pytest

from policies.filters import seccomp_profile
from policies.schema import SeccompProfile
from sandbox.container.bpf import ALLOW, ARCHITECTURES, ERRNO, KILL, assembled
from sandbox.posture.numbers import numbers
from sandbox.posture.sweep import Filter, attempts

MACHINES = list(ARCHITECTURES)
PROFILES: list[SeccompProfile] = ["strict", "default", "debug"]


def answer(program: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> int:
    """What the kernel's interpreter returns."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(value & (1 << 64) - 1 for value in arguments))
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x15:
            at += yes if accumulator == value else no
        else:
            assert operation == 0x06
            return value


@pytest.mark.parametrize(
    ("name", "machine"), [*((name, "x86_64") for name in PROFILES), ("strict", "aarch64")]
)
def test_the_program_answers_as_the_profile_says(name: SeccompProfile, machine: str) -> None:
    profile = seccomp_profile(name)
    program, rules, known = assembled(profile, machine), Filter(profile), numbers(machine)
    chance = random.Random(7)
    values = [0, 1, 2, 3, 6, 9, 10, 16, 17, 58, 262, 0x1000_0000, 0xFFFF_FFFF, 1 << 32, (1 << 64) - 1]
    allowed = 0
    for call, number in known.items():
        for _ in range(40 if call in ("socket", "socketpair", "clone", "personality") else 1):
            arguments = tuple(chance.choice(values) for _ in range(6))
            told = answer(program, ARCHITECTURES[machine], number, arguments)
            assert (told == ALLOW) == rules.allows(call, arguments), (call, arguments)
            assert told in (ALLOW, ERRNO | 1, ERRNO | 38, ERRNO | 93)
            allowed += told == ALLOW
    assert allowed > 200
    assert answer(program, ARCHITECTURES[machine], known["clone3"], (0,) * 6) == ERRNO | 38
    assert answer(program, ARCHITECTURES[machine], known["socket"], (16, 3, 9, 0, 0, 0)) == ERRNO | 93
    for one in attempts(profile, machine):
        arguments = tuple([*one.arguments, 0, 0, 0, 0, 0, 0][:6])
        if not one.name.startswith("ptrace of PID 1"):
            assert answer(program, ARCHITECTURES[machine], one.number, arguments) != ALLOW, one.name


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    program = assembled(seccomp_profile("strict"), machine)
    for other in (0x4000_0003, 0, *(value for name, value in ARCHITECTURES.items() if name != machine)):
        assert answer(program, other, numbers(machine)["read"], (0,) * 6) == KILL


def test_what_cannot_be_said_exactly_is_an_error() -> None:
    profile = json.loads(seccomp_profile("strict"))

    def refused(**changes: object) -> None:
        rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", **changes}
        with pytest.raises(ValueError, match="is not known here"):
            assembled(json.dumps({**profile, "syscalls": [rule]}), "x86_64")

    refused(action="SCMP_ACT_LOG")
    refused(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_GE"}])
    with pytest.raises(ValueError, match="EPERM"):
        assembled(json.dumps({**profile, "defaultAction": "SCMP_ACT_ALLOW"}), "x86_64")
    with pytest.raises(ValueError, match="EPERM"):
        assembled(json.dumps({**profile, "defaultErrnoRet": 38}), "x86_64")
    with pytest.raises(KeyError):
        assembled(seccomp_profile("strict"), "riscv64")
