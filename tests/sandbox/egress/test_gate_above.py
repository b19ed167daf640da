"""What moves through a child's gate counts in its parent's: starting others gains no session a byte."""

from __future__ import annotations

import pytest

from policies.schema import Limits, Policy
from sandbox.egress import Gate
from sandbox.egress.errors import Cut
from sandbox.egress.live import Traffic

MIB = 1 << 20


def test_children_together_send_no_more_than_their_parent_may():
    parent = Traffic(Limits(egress_mb=3, ingress_mb=2))
    children = [Traffic(Limits(egress_mb=2, ingress_mb=2), above=parent) for _ in range(3)]
    children[0].sent(2 * MIB)
    with pytest.raises(Cut, match="egress_mb 2"):
        children[0].sent(1)
    children[1].sent(MIB)
    with pytest.raises(Cut, match="egress_mb 3"):
        children[2].sent(1)
    with pytest.raises(Cut, match="egress_mb 3"):
        parent.sent(1)
    # What was cut was not sent, so it is counted nowhere.
    assert (parent.bytes_out, children[2].bytes_out) == (3 * MIB, 0)
    children[1].received(MIB)
    parent.received(MIB)
    with pytest.raises(Cut, match="ingress_mb 2"):
        children[2].received(1)


def test_a_gate_counts_in_the_one_above_and_in_all_above_that():
    policy = Policy(name="p", limits=Limits(egress_mb=1))
    top = Gate(policy)
    below = Gate(policy, above=Gate(policy, above=top))
    below._traffic.sent(MIB)
    with pytest.raises(Cut):
        top._traffic.sent(1)
