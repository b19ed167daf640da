"""What is allowed: policies as data, and pure functions that decide over them."""

from policies.errors import PolicyError
from policies.load import load
from policies.schema import Policy

__all__ = ["Policy", "PolicyError", "load"]
