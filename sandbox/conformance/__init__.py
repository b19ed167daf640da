"""The contract of a sandbox as checks: `python -m sandbox.conformance`, or `run_all(open)` with your own.

A check is a coroutine over one open sandbox that raises AssertionError where the contract is not kept. It
needs nothing inside but `sh` and the commands every small userland has (for connections python3, or BusyBox's
`nc`), and it looks for effects: files that stop growing, bytes that come back.
"""

from sandbox.conformance import calls, commands, connections, endings, files, paths, processes, streams
from sandbox.conformance.registry import CHECKS, Check, OpenSandbox, Outcome, run_all, run_each

_CHAPTERS = (commands, streams, endings, calls, processes, files, paths, connections)
"""Imported for their checks."""

__all__ = ["CHECKS", "Check", "OpenSandbox", "Outcome", "run_all", "run_each"]
