"""What a session has moved through its gate counts when it goes on: leaving it gains it no byte."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from boundaries import Life
from mortal import World, install

from harness.events import CallOutcome, EgressClosed, EgressDecided, Notice
from harness.journal.writer import Journal
from harness.messages import Result
from harness.process.children import Returned
from harness.process.traffic import Traffic
from harness.store import Store
from harness.syscalls.spawn import Spawn, interrupted
from sandbox.egress.errors import Cut

MIB = 1 << 20


def connection(number, sent, received):
    yield EgressDecided(
        connection=number,
        protocol="connect",
        host="example.org",
        port=443,
        decision="allow",
        rule="x",
        reason="y",
    )
    yield EgressClosed(connection=number, bytes_out=sent, bytes_in=received, duration_s=0.1, why="done")


def of_a_child(sent, received):
    spent = Returned("s", "done", "", traffic=Traffic(sent, received)).spent
    return CallOutcome(
        result=Result(call_id="c", name="spawn", content=""), duration_s=1, details={"spent": spent}
    )


class Gated(World):
    """Its gate is kept; nobody is asked for anything."""

    def __init__(self, directory):
        directory.mkdir()
        super().__init__(directory, ["done"])
        self.policy = self.policy.model_copy(
            update={
                "network": self.policy.network.model_copy(update={"allow": ("example.org",)}),
                "limits": self.policy.limits.model_copy(update={"egress_mb": 4, "ingress_mb": 4}),
            }
        )

    def again(self, spec, ref):
        self.gate = spec.gate
        return super().again(spec, ref)


async def test_what_was_sent_and_received_before_counts_after_a_resume(tmp_path, monkeypatch):
    world = Gated(tmp_path / "world")
    install(monkeypatch, lambda: world)
    async with contextlib.aclosing(SimpleNamespace(aclose=world.close)):
        assert await world.start(dies_at="before request") is None
        world.lives.append(Life())
        journal = Journal.open(Store(world.home).session("last"))
        try:
            await journal.append_many(
                [*connection(1, MIB, 2 * MIB), *connection(2, MIB, 0), of_a_child(MIB, MIB)]
            )
        finally:
            journal.close()
        assert (await world.resume()).status == "done"
        world.gate._traffic.sent(MIB)
        with pytest.raises(Cut, match="egress_mb"):
            world.gate._traffic.sent(1)
        world.gate._traffic.received(MIB)
        with pytest.raises(Cut, match="ingress_mb"):
            world.gate._traffic.received(1)
        # The next connection gets a number that none had.
        assert world.gate._count == 2


async def test_what_a_child_had_moved_that_a_resume_ends_counts_at_once(tmp_path):
    told = []

    class Children:
        async def collect(self, child):
            return Returned("s", "interrupted", "killed", traffic=Traffic(3, 4))

        def directory(self, child):
            return tmp_path

    child = SimpleNamespace(call_id="c", name="tests", mergeable=False)
    budget = SimpleNamespace(absorb=lambda *spent: None)
    context = SimpleNamespace(
        session=SimpleNamespace(children={"tests": child}, budget=budget),
        children=Children(), call_id="c", limits=SimpleNamespace(output_bytes=1000),
        outlet=SimpleNamespace(account=lambda **moved: told.append(moved)),
    )  # fmt: skip
    await interrupted(context, Spawn(name="tests", task="x"))
    assert told == [{"bytes_out": 3, "bytes_in": 4}]


def test_traffic_is_what_ended_connections_and_children_carried_and_nothing_else():
    traffic = Traffic()
    for event in (*connection(1, 10, 20), Notice(level="info", code="x", text="y"), of_a_child(1, 2)):
        traffic = traffic.after(event)
    assert traffic == Traffic(11, 22)
