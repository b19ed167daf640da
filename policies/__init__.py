"""What is allowed: policies as data, and pure functions that decide over them."""

from policies.load import PolicyError, load
from policies.schema import Policy

__all__ = ["Policy", "PolicyError", "load"]
