"""A session as a whole: how it began, in what it runs, who went on with it, and its end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.messages import VERBATIM, JsonObject, Usage, Value


class ForkedFrom(Value):
    """Of a session that begins with what another one had said and done until a checkpoint."""

    session: str
    checkpoint: int
    digest: Annotated[str, VERBATIM]
    """Of the tree that it began with."""
    head: Annotated[str, VERBATIM]
    """Hash of the source's line that tells of the checkpoint."""
    entries: int
    """The entries after the first that are the source's; with fewer the fork was never made whole."""


class ChildOf(Value):
    """Of a session that another one started by `spawn`."""

    session: str
    call_id: Annotated[str, VERBATIM]
    name: str
    """What the parent calls it; of a child's child the whole line, `tests/unit`."""


class SessionStarted(Value):
    kind: Literal["session_started"] = "session_started"
    session: str
    task: str
    model: str
    service: str | None = None
    """Where it is asked; None for its provider's own."""
    policy: JsonObject
    """The whole policy, as decided on."""
    policy_digest: str
    image: str
    image_digest: str
    runtime: str
    workspace: str | None
    forked: ForkedFrom | None = None
    parent: ChildOf | None = None
    harness_version: str
    tools: dict[str, str] = Field(default_factory=dict)
    """Variables by which the policy's presets tell the tools inside what to use."""
    sentinels: dict[str, str] = Field(default_factory=dict)
    """What stands inside for bound secrets, by name; worth nothing anywhere else."""


class WorkspaceCopied(Value):
    """What a session sees of the user's directory: a copy, an overlay over it, or (bind) that itself."""

    kind: Literal["workspace_copied"] = "workspace_copied"
    mode: Literal["copy", "overlay", "bind"] = "copy"
    files: int
    bytes: int
    """Copied; none in the other modes."""
    excluded: tuple[str, ...]
    """`path: reason`, at most 200 of them."""
    excluded_total: int


class SandboxOpened(Value):
    kind: Literal["sandbox_opened"] = "sandbox_opened"
    ref: str


class PostureMeasured(Value):
    """What probes inside found before anything else ran there. It equals the policy, or nothing starts."""

    kind: Literal["posture"] = "posture"
    probes: int
    cached: bool
    """Measured earlier, on the same image, policy, engine and kernel."""
    duration_s: float


class ChildStarted(Value):
    """A call starts a session of its own, on a snapshot of this one's workspace; written before it exists."""

    kind: Literal["child_started"] = "child_started"
    name: str
    session: str
    call_id: Annotated[str, VERBATIM]
    children: int
    """Sessions that it may start in turn: given to it, and gone from what this one may start."""
    mergeable: bool
    """Whether what it changes is offered to be taken over."""


class Resumed(Value):
    """Another process goes on with the session; written before it touches anything."""

    kind: Literal["resumed"] = "resumed"
    by: str
    """User and process."""
    model: str
    service: str | None = None
    harness_version: str


class OpenCall(Value):
    """A call that was announced by a process that did not write down what came of it."""

    call_id: Annotated[str, VERBATIM]
    name: str
    fate: Literal["adopted", "reattached", "again", "not_run", "unknown"]
    """Its result was there; it still runs; it changes nothing (or nothing of it was done) and is done again;
    it never began; or nobody knows."""


class TakenUp(Value):
    """What a resumed session found. What it does about the calls is said by their outcomes."""

    kind: Literal["taken_up"] = "taken_up"
    sandbox: Literal["attached", "reopened", "new"]
    """The same container; a new one over the session's own workspace; or everything from the start."""
    calls: tuple[OpenCall, ...]


class SessionEnded(Value):
    kind: Literal["session_ended"] = "session_ended"
    status: Literal[
        "done", "failed", "refused", "budget", "provider", "sandbox", "journal", "interrupted", "killed"
    ]
    exit_code: int
    reason: str
    turns: int
    usage: Usage
    changes: int
    """Files of the workspace that differ from the copy that went in."""
    waiting: int = 0
    """Prompts that the model has not read; they are for a `resume`."""
