"""Reading what the probe says, what a filter refuses, and what is remembered of it; no engine needed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import load
from policies.filters import seccomp_profile
from sandbox.posture import remembered
from sandbox.posture.facts import Answer, answers, glanced, mounts, network_devices
from sandbox.posture.numbers import numbers
from sandbox.posture.sweep import Filter, attempts


def test_answers_are_read_question_by_question():
    assert answers(["r /a", "t 1"], b"0 3\na\nb\n13 0\n\n") == {"r /a": Answer(0, b"a\nb"), "t 1": Answer(13)}


@pytest.mark.parametrize(
    "data", [b"", b"0 5\nab\n", b"0 1\na\n", b"x y\n\n", b"0 1\na\n0 0\n\nmore", b"-1 0\n\n"]
)
def test_an_answer_that_is_none_is_an_error(data: bytes):
    with pytest.raises(ValueError, match=r"probe|cut off"):
        answers(["r /a", "r /b"], data)


@given(st.binary(max_size=200))
def test_hostile_answers_are_answers_or_one_typed_error(data: bytes):
    with contextlib.suppress(ValueError):
        answers(["r /a"], data)


@pytest.mark.parametrize("data", [b"", b"a\0b\0", b"a\0b\0c", b"a\0b\0c\0d", b"a\0\0c\0", b"a\0b\0c\0d\0"])
def test_a_glance_that_is_not_three_whole_tables_is_an_error(data: bytes):
    assert [answer.data for answer in glanced(b"a\0b\0c\0").values()] == [b"a", b"b", b"c"]
    with pytest.raises(ValueError, match="cut off"):
        glanced(data)


def test_a_mount_is_read_with_its_escapes_and_both_kinds_of_options():
    (mount,) = mounts("1 2 0:3 /null /a\\040b ro,nosuid master:1 - tmpfs none rw,size=4k")
    assert (mount.point, mount.root, mount.kind, mount.read_only) == ("/a b", "/null", "tmpfs", True)
    assert mount.own == {"rw", "size=4k"}
    with pytest.raises(ValueError, match="mount table"):
        mounts("nonsense")


def test_network_devices_are_told_apart_from_the_heading():
    assert network_devices("Inter-| x\n face | y\n    lo: 0\n  eth0: 1\n") == {"lo", "eth0"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_that_a_profile_names_has_a_number(machine: str):
    named = {name for rule in json.loads(seccomp_profile("debug"))["syscalls"] for name in rule["names"]}
    missing = named - set(numbers(machine))
    # The calls that only the older of the two machines has.
    assert missing == set() if machine == "x86_64" else {"open", "stat", "fork", "mkdir"} <= missing
    assert len(set(numbers(machine).values())) == len(numbers(machine))


def test_a_filter_answers_as_the_profile_says():
    rules = Filter(seccomp_profile("strict"))
    assert rules.allows("read", (0, 0, 0))
    assert not rules.names("mount")
    assert rules.allows("socket", (1, 1, 0))
    assert not rules.allows("socket", (17, 3, 0))
    assert rules.allows("clone", (0x11,))
    assert not rules.allows("clone", (0x1000_0011,))


def test_a_sweep_tries_what_is_refused_and_nothing_that_is_allowed():
    swept = {one.name: one for one in attempts(seccomp_profile("strict"), "x86_64")}
    assert {"mount", "bpf", "io_uring_setup", "keyctl", "userfaultfd", "clone3", "kexec_load"} <= set(swept)
    assert not {"read", "kill", "exit", "exit_group", "uretprobe"} & set(swept)
    assert "clone into a new user namespace" in swept
    assert "socket of family 40, type 1" in swept
    assert "socket of family 2, type 1" not in swept
    wider = {one.name for one in attempts(seccomp_profile("debug"), "x86_64")}
    assert "ptrace" in swept
    assert "ptrace" not in wider
    assert "ptrace of PID 1" in wider


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(remembered, "cache_dir", lambda: tmp_path)
    return remembered.key(load("strict"), REQUEST, "runc", Path("/c/digest/init"), {"ID": "e"})


REQUEST: dict[str, Any] = {
    "Image": "sha256:1",
    "Labels": {"session": "a"},
    "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/s/1", "Target": "/workspace", "ReadOnly": False}]},
}


def test_what_is_remembered_speaks_for_exactly_the_same(key: str):
    assert remembered.recall(key) is None
    remembered.remember(key, 400)
    assert remembered.recall(key) == 400
    parts = json.loads(key)
    assert {"image", "policy", "request", "runtime", "init", "engine", "kernel"} == set(parts)
    for name in parts:
        assert remembered.recall(json.dumps({**parts, name: "other"})) is None, name


def test_sessions_differ_in_names_and_sources_alone(key: str):
    def of(**changes: Any) -> str:
        return remembered.key(
            load("strict"), {**REQUEST, **changes}, "runc", Path("/c/digest/init"), {"ID": "e"}
        )

    assert of(Labels={"session": "b"}) == key
    mount = {**REQUEST["HostConfig"]["Mounts"][0], "Source": "/s/2"}
    assert of(HostConfig={"Mounts": [mount]}) == key
    assert of(HostConfig={"Mounts": [{**mount, "ReadOnly": True}]}) != key
    assert of(HostConfig={"Mounts": [mount], "ReadonlyRootfs": True}) != key
    assert remembered.key(load("dev"), REQUEST, "runc", Path("/c/digest/init"), {"ID": "e"}) != key


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": {}, "at": 0, "probes": 1}', b'{"at": "x"}'])
def test_a_memory_that_cannot_be_read_is_none(key: str, content: bytes):
    remembered.remember(key, 400)
    (kept,) = remembered.cache_dir().glob("posture/*.json")
    kept.write_bytes(content)
    assert remembered.recall(key) is None


def test_an_old_memory_is_none(key: str):
    remembered.remember(key, 400)
    (kept,) = remembered.cache_dir().glob("posture/*.json")
    entry = json.loads(kept.read_text())
    for at in (entry["at"] - 25 * 3600, entry["at"] + 3600):
        kept.write_text(json.dumps({**entry, "at": at}))
        assert remembered.recall(key) is None


def test_a_directory_that_others_may_write_is_not_believed(key: str):
    remembered.remember(key, 400)
    (remembered.cache_dir() / "posture").chmod(0o777)
    assert remembered.recall(key) is None
    (remembered.cache_dir() / "posture").chmod(0o700)
    assert remembered.recall(key) == 400
