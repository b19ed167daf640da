"""A recorded session decided again: in the directory that each call was made in."""

from __future__ import annotations

from types import SimpleNamespace

from harness.events import CallIntent, CallOutcome, Checkpointed, Rewound
from harness.messages import Call, Result
from harness.recovery.redecide import redecide
from policies.schema import Policy, Rule, When


def moved(to):
    return CallOutcome(
        result=Result(call_id="c", name="bash", content=""), duration_s=0.1, details={"cwd": to}
    )


def wrote(path):
    call = Call(id="w", name="write", arguments={"path": path, "content": ""})
    return CallIntent(call=call, exec_id="0000000100000001", decision="allow")


def kept(number):
    return Checkpointed(number=number, digest="0" * 64, files=0, bytes=0)


def test_a_relative_path_starts_where_the_session_stood_also_once_it_was_taken_back():
    below = Rule(syscall="write", when=When(path="/workspace/docs/**"), action="deny", reason="Not the docs.")
    policy = Policy(name="test", rules=(below, Rule(syscall="*", action="allow", reason="All else.")))
    entries = [
        kept(0), wrote("a"), moved("/workspace/docs"), wrote("a"), kept(1),
        Rewound(to=0, digest="0" * 64, removed=0, made=0), wrote("a"),
        Rewound(to=1, digest="0" * 64, removed=0, made=0), wrote("a"),
    ]  # fmt: skip
    records = [SimpleNamespace(seq=seq, entry=entry) for seq, entry in enumerate(entries, 1)]
    assert [one.now.action for one in redecide(records, policy)] == ["allow", "deny", "allow", "deny"]
