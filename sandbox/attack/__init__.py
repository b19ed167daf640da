"""The attack suite: known ways out of containers, tried for real, against a session or a plain container."""

from sandbox.attack.case import Outcome, Result
from sandbox.attack.suite import attack, known

__all__ = ["Outcome", "Result", "attack", "known"]
