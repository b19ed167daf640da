"""What the user gave a session beyond its policy is there when it goes on, also in a new container."""

from __future__ import annotations

import contextlib

from mortal import World, install

from harness.events import CallOutcome


def asks(**limits):
    return {"calls": [{"name": "sudo", "arguments": {"reason": "It is needed.", "limits": limits}}]}


REPLIES = [asks(memory_mb=4096, egress_mb=900), asks(memory_mb=4000), "done"]


class Watched(World):
    """It keeps what its machine was asked for."""

    def __init__(self, directory):
        directory.mkdir()
        super().__init__(directory, REPLIES)
        network = self.policy.network.model_copy(update={"ask": True})
        self.policy = self.policy.model_copy(update={"network": network})
        self.specs = []

    def again(self, spec, ref):
        self.specs.append(spec)
        return super().again(spec, ref)


async def test_a_new_container_has_what_was_given_to_the_one_that_is_gone(tmp_path, monkeypatch):
    worlds = [Watched(tmp_path / "whole"), Watched(tmp_path / "killed")]
    whole, killed = worlds
    async with contextlib.AsyncExitStack() as stack:
        for one in worlds:
            stack.push_async_callback(one.close)
        install(monkeypatch, lambda: worlds[0])
        assert (await whole.start()).status == "done"
        told = next(at for at, name in enumerate(whole.life.trail) if name == "after writing call_outcome")
        worlds.pop(0)
        assert await killed.start(dies_at=told + 1) is None
        assert killed.box.limits.memory_mb == 4096
        await killed.box.close()
        killed.box = killed._new_box()
        assert (await killed.resume()).status == "done"
        (spec,) = killed.specs
        assert (spec.policy.limits.memory_mb, spec.policy.limits.egress_mb) == (4096, 900)
        assert spec.gate.policy.limits.egress_mb == 900
        # It still counts: less than that is no raise, and no question.
        entries = [record.entry for record in killed.records]
        results = [entry.result for entry in entries if isinstance(entry, CallOutcome)]
        assert [result.error for result in results] == [None, "bad_arguments"]
        assert "4096 already" in results[1].content
