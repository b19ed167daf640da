"""Where a session is to run: what the command line said about it, checked, and the policy that follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from policies import Policy, load
from policies.schema import Limits

RUNTIMES: dict[str | None, Literal["runc", "runsc"] | None] = {None: None, "runc": "runc", "runsc": "runsc"}


@dataclass(frozen=True)
class Said:
    """As it was typed."""

    policy: str
    workspace: Path | None
    no_workspace: bool
    image: str | None
    runtime: str | None


@dataclass(frozen=True)
class Place:
    policy: Policy
    """The user's own; the project's file has not been looked at yet."""
    directory: Path | None
    """The user's directory, of which the session gets a copy."""
    image: str | None
    runtime: Literal["runc", "runsc"] | None


def place(said: Said, **limits: float | None) -> Place:
    """Check what was said. `limits` that are not None replace the policy's, since the user typed them.

    Raises UsageError and PolicyError.
    """
    if said.runtime not in RUNTIMES:
        raise UsageError(f"--runtime {said.runtime}: there are runc and runsc")
    policy = _limited(load(said.policy), limits)
    return Place(policy, _directory(said), said.image, RUNTIMES[said.runtime])


def _directory(said: Said) -> Path | None:
    if said.no_workspace:
        if said.workspace is not None:
            raise UsageError("--workspace and --no-workspace exclude each other")
        return None
    directory = (said.workspace or Path.cwd()).resolve()
    if not directory.is_dir():
        raise UsageError(f"--workspace {said.workspace}: not a directory")
    return directory


def _limited(policy: Policy, limits: dict[str, float | None]) -> Policy:
    chosen = {name: value for name, value in limits.items() if value is not None}
    try:
        checked = Limits.model_validate({**policy.limits.model_dump(), **chosen})
    except ValueError as error:
        raise UsageError(f"a limit is out of its range: {', '.join(chosen)}") from error
    return policy.model_copy(update={"limits": checked})
