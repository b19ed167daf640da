"""Where it runs: the container's lifecycle, the wire to it, and the files that go in and come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.lifecycle.opening import attach_sandbox, open_sandbox
    from sandbox.protocol import Command, Completed, Sandbox, SandboxSpec

__all__ = ["Command", "Completed", "Sandbox", "SandboxSpec", "attach_sandbox", "open_sandbox"]


def __getattr__(name: str) -> Any:
    """Loaded when first named, so that a command that opens no sandbox does not pay for one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sandbox import protocol
    from sandbox.lifecycle import opening

    return getattr(opening if name.endswith("_sandbox") else protocol, name)
