"""Posture: measuring, from inside, that a container is what its policy says."""

from sandbox.posture.check import Posture, verify
from sandbox.posture.expected import Expected, expected

__all__ = ["Expected", "Posture", "expected", "verify"]
