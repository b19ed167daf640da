"""A clock that somebody sets: what a session has used of its time, and what was allowed for minutes."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from journal_double import first_entry

from harness.approvals.grants import Grants
from harness.approvals.petition import binding_of, network_petition
from harness.events import GrantChanged, Notice, Resumed
from harness.journal.record import Head, drafted, encode
from harness.process.recorder import Recorder
from harness.recovery.rebuild import Rebuilder
from policies import load
from sandbox import owner
from sandbox.lifecycle.reaper import reap
from sandbox.lifecycle.record import RECORD, Record

HOUR = 3600
NOON = 1_700_000_000
HOST = network_petition("example.org", 443, "to look")


@pytest.fixture
def set_to(monkeypatch):
    """The clock that anybody may set."""

    def to(now):
        monkeypatch.setattr(time, "time", lambda: now)
        monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))

    return to


def told(set_to, *entries):
    """A session whose entries were written at these times."""
    rebuilder, head = Rebuilder(), Head(0, "0" * 64)
    for at, entry in entries:
        set_to(at)
        _, record = encode(head, drafted(entry))
        head = Head(record.seq, record.hash)
        rebuilder.feed(record)
    return rebuilder.rebuilt()


NOTE = Notice(level="info", code="x", text="x")
AGAIN = Resumed(by="me", model="scripted:x", harness_version="0")


def used(past):
    return round(past.session.budget.elapsed_s)


def test_what_was_used_stays_used_when_the_clock_is_set_back(set_to):
    begun = (NOON, first_entry("s"))
    run = [begun, (NOON + 300, NOTE), (NOON - 5 * HOUR, NOTE), (NOON - 5 * HOUR + 60, NOTE)]
    assert used(told(set_to, *run)) == 360
    # Also when it went back while nobody ran the session, and forward again.
    again = [
        (NOON - 9 * HOUR, AGAIN),
        (NOON - 9 * HOUR + 5, NOTE),
        (NOON + HOUR, AGAIN),
        (NOON + HOUR + 2, NOTE),
    ]
    assert used(told(set_to, *run, *again)) == 367


def given_for(minutes, at):
    return GrantChanged(
        grant="g1",
        change="given",
        what=HOST.subject,
        binding=binding_of(HOST.kind, HOST.bound),
        scope="minutes",
        until=at + minutes * 60,
        petition=HOST.kind,
        bound=dict(HOST.bound),
    )


@pytest.mark.parametrize(
    ("now", "left_s"), [(NOON + 60, 540), (NOON + 601, None), (NOON - 1, None), (NOON - 5 * HOUR, None)]
)
async def test_an_answer_for_minutes_lasts_no_longer_when_the_clock_is_set_back(set_to, now, left_s):
    past = told(set_to, (NOON, first_entry("s")), (NOON, given_for(10, NOON)))
    set_to(now)
    grants = Grants(Recorder(SimpleNamespace(), lambda event: None), clock=lambda: 0.0)
    grants.restore(past.grants, past.granted)
    assert [grant.ends for grant in grants.live()] == ([] if left_s is None else [left_s])
    grants.close()


class OneOrphan:
    """An engine with a container whose harness is gone."""

    def __init__(self, state):
        self.state, self.here = state, True

    async def containers(self, labels):
        if owner.SESSION not in labels or not self.here:
            return []
        mine = {owner.SESSION: "s", owner.STATE: str(self.state), owner.OWNER: "boot:1:1"}
        return [{"Id": "c", "State": "running", "Labels": mine}]

    async def remove(self, ref):
        self.here = False


async def test_an_orphan_is_left_for_one_lease_whatever_the_clock_says(tmp_path, set_to, monkeypatch):
    state = tmp_path / "s"
    state.mkdir()
    (state / owner.FILE).write_text("boot:1:1")
    os.utime(state / owner.FILE, (NOON, NOON))
    (state / RECORD).touch()
    record = SimpleNamespace(policy=load("strict"), left=False)
    monkeypatch.setattr(Record, "load", lambda directory: record)
    lease_s = record.policy.limits.orphan_s
    engine = OneOrphan(state)

    async def gc(now):
        set_to(now)
        await reap(engine, tmp_path / "none", resumable=lambda directory: True)
        if (mark := state / "orphan").stat().st_mtime > NOON + HOUR:
            os.utime(mark, (now, now))  # It was written just now, by the disk's own clock.
        return not engine.here

    assert not await gc(NOON + 10)
    # Set back by five hours: from there on it is one lease, and not five hours more.
    back = NOON - 5 * HOUR
    assert not await gc(back)
    assert not await gc(back + lease_s - 1)
    assert await gc(back + lease_s + 1)
