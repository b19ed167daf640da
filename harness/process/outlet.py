"""The way out (egress) as the kernel knows it: what an answer of the user may open, and take back."""

from __future__ import annotations

from typing import Protocol


class Outlet(Protocol):
    """The gate of one session. No method waits or raises, but KeyError for a secret that is none."""

    def grant(self, host: str, port: int, *, once: bool = False) -> None:
        """Let connections to this host (canonical) and port pass; with `once`, those of the next command that
        makes one.
        """

    def revoke(self, host: str, port: int) -> None:
        """Take a grant back and cut what is connected by it. No error when there was none."""

    def release_secret(self, name: str) -> None:
        """Put a bound secret's value in place of its sentinel, toward its host."""

    def withhold_secret(self, name: str) -> None:
        """Stop doing so."""

    def allow_bytes(self, egress_mb: int) -> None:
        """How much the whole session may send out, in place of what it was."""

    def account(self, *, bytes_out: int, bytes_in: int) -> None:
        """Count what the session moved without this gate."""
