"""The way out (egress): every connection of a sandbox ends at a gate on the host, which decides on it.

No network device leads out; init hands each connection to the gate over the wire, with its origin.
"""

from __future__ import annotations

from sandbox.egress.gate import Gate
from sandbox.egress.report import Attempt, Closed, Decided

__all__ = ["Attempt", "Closed", "Decided", "Gate"]
