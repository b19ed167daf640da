"""Where a session is to run: what the command line said about it, checked, and the policy that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from policies import Policy, load
from policies.schema import Limits

RUNTIMES: dict[str | None, Literal["runc", "runsc"] | None] = {None: None, "runc": "runc", "runsc": "runsc"}
MODES: Mapping[str, Literal["copy", "overlay"]] = {"copy": "copy", "overlay": "overlay"}
"""To be chosen for one session. Work on the directory itself is for a policy file to allow, in writing."""


@dataclass(frozen=True)
class Said:
    """As it was typed."""

    policy: str
    workspace: Path | None
    no_workspace: bool
    image: str | None
    runtime: str | None
    workspace_mode: str | None = None


@dataclass(frozen=True)
class Place:
    policy: Policy
    """The user's own; the project's file has not been looked at yet."""
    directory: Path | None
    """The user's directory, of which the session gets a copy."""
    image: str | None
    runtime: Literal["runc", "runsc"] | None
    typed: frozenset[str] = frozenset()
    """Keys of the policy, dotted, that the user typed: no file of a project loosens them."""


def place(said: Said, **limits: float | None) -> Place:
    """Check what was said. `limits` that are not None replace the policy's, since the user typed them.

    Raises UsageError and PolicyError.
    """
    if said.runtime not in RUNTIMES:
        raise UsageError(f"--runtime {said.runtime}: there are runc and runsc")
    policy = _with_mode(_limited(load(said.policy), limits), said.workspace_mode)
    typed = {f"limits.{name}" for name, value in limits.items() if value is not None}
    if said.workspace_mode is not None:
        typed.add("workspace.mode")
    return Place(policy, _directory(said), said.image, RUNTIMES[said.runtime], frozenset(typed))


def _directory(said: Said) -> Path | None:
    if said.no_workspace:
        if said.workspace is not None:
            raise UsageError("--workspace and --no-workspace exclude each other")
        return None
    directory = (said.workspace or Path.cwd()).resolve()
    if not directory.is_dir():
        raise UsageError(f"{said.workspace}: not a directory")
    return directory


def _with_mode(policy: Policy, mode: str | None) -> Policy:
    if mode is None:
        return policy
    if mode not in MODES:
        hint = "; bind is for a policy file to say: [workspace] mode" if mode == "bind" else ""
        raise UsageError(f"--workspace-mode {mode}: there are copy and overlay{hint}")
    workspace = policy.workspace.model_copy(update={"mode": MODES[mode]})
    return policy.model_copy(update={"workspace": workspace})


def _limited(policy: Policy, limits: dict[str, float | None]) -> Policy:
    chosen = {name: value for name, value in limits.items() if value is not None}
    try:
        checked = Limits.model_validate({**policy.limits.model_dump(), **chosen})
    except ValueError as error:
        given = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
        raise UsageError(f"a limit is out of its range: {given}; see limits in docs/policies.md") from error
    return policy.model_copy(update={"limits": checked})
