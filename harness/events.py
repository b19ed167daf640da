"""Events: what happens in a session, in one vocabulary for the journal, `--json` and the screen.

Entries are journalled; Signals are not (they would only repeat what an entry says whole). Both carry `kind`.
A new optional field keeps VERSION; anything else raises it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harness.messages import VERBATIM, Call, JsonObject, Message, Result, Usage, Value

VERSION = 1

PROMPT_NAME = "^q[1-9][0-9]{0,8}$"

# --- entries: journalled, in this order of a session's life ---


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


class MessageAdded(Value):
    """A user's or the model's message; for the model's, what it cost."""

    kind: Literal["message"] = "message"
    message: Message
    usage: Usage | None = None
    stop: str | None = None
    cost_usd: float | None = None
    prompt: Annotated[str, VERBATIM, Field(pattern=PROMPT_NAME)] | None = None
    """The prompt that waited and is this message; from here on it waits no longer."""


class PromptQueued(Value):
    """Something the user said that the model has not read yet. Once this is written it will be, once."""

    kind: Literal["prompt_queued"] = "prompt_queued"
    prompt: Annotated[str, VERBATIM, Field(pattern=PROMPT_NAME)]
    """Its name in this session, e.g. `q1`."""
    when: Literal["request", "turn"]
    """Before the model's next request (steering), or as the beginning of a turn (follow-up)."""
    text: str
    by: str
    """`terminal`, `another terminal`, …"""


class PromptDropped(Value):
    """The user took a prompt back before the model read it."""

    kind: Literal["prompt_dropped"] = "prompt_dropped"
    prompt: Annotated[str, VERBATIM]
    by: str


class TurnDone(Value):
    """A turn is over, and the session waits for what the user says next."""

    kind: Literal["turn_ended"] = "turn_ended"
    status: Literal["done", "failed", "interrupted"]
    reason: str


class CallIntent(Value):
    """Written before the effect. Past this line the call may have happened."""

    kind: Literal["call_intent"] = "call_intent"
    call: Call
    exec_id: str | None = None
    """The id under which the sandbox executes it, at most once."""
    decision: Literal["allow", "ask", "deny"]
    rule: str = ""


class FileAhead(Value):
    """What a call is about to make of a file: written once that is known, and before it is done.

    The file itself then tells a resumed session whether it was.
    """

    kind: Literal["file_ahead"] = "file_ahead"
    call_id: Annotated[str, VERBATIM]
    path: str
    before: Annotated[str, VERBATIM] | None
    """SHA-256 of what it holds; empty where there is none, None where that cannot be read."""
    after: Annotated[str, VERBATIM]


class CallOutcome(Value):
    """Written after the effect, before the sandbox's own record of it is released."""

    kind: Literal["call_outcome"] = "call_outcome"
    result: Result
    duration_s: float
    details: JsonObject = Field(default_factory=dict)
    """Exit code, byte counts, paths read and written: facts for the screen and for recovery."""


class Notice(Value):
    """Something worth knowing that is nobody's message: a retry, a torn tail cut, a loop detected."""

    kind: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"]
    code: str
    text: str


class EvictedPage(Value):
    """A result that is kept outside the context."""

    page: Annotated[str, VERBATIM]
    """`p7`: its place among all parts of the session's messages."""
    tokens: int
    """Estimated, before the provider's own count corrects it."""
    stub: str
    """What the model is sent in its place."""


class PagesEvicted(Value):
    """Written before the shorter context is used."""

    kind: Literal["pages_evicted"] = "pages_evicted"
    pages: tuple[EvictedPage, ...]
    tokens_before: int
    """Expected of the next request, by what the provider counted so far."""
    tokens_after: int


class Compacted(Value):
    """Written before it is used: one message stands in place of the conversation's beginning."""

    kind: Literal["compacted"] = "compacted"
    through: int
    """Messages of the session that are replaced, from the first."""
    pages: int
    """Their pages, `p1` to this one; all of them can be recalled."""
    cause: Literal["full", "overflow"]
    """By our own count, or since the provider refused the request as too long."""
    summary: JsonObject | None
    """The model's, as validated; None where none could be had."""
    fallback: str = ""
    """Why there is no new summary."""
    head: str
    """The message, as the model is sent it."""
    tokens_before: int
    """Expected of the next request, by what the provider counted so far."""
    tokens_after: int
    replies: int
    """The model gave for it; they are no part of the conversation."""
    usage: Usage
    """What they cost together."""
    cost_usd: float | None


class WindowLearned(Value):
    """The model refused a request of this size as too long; while it is this model, less is sent."""

    kind: Literal["window_learned"] = "window_learned"
    tokens: int


class Checkpointed(Value):
    """The workspace was kept as the calls before this entry left it; number 0 is how the session got it."""

    kind: Literal["checkpointed"] = "checkpointed"
    number: int
    digest: Annotated[str, VERBATIM]
    """SHA-256 of the tree: of every name, mode and byte."""
    files: int
    """Files and links that differ from the checkpoint before."""
    bytes: int
    """Stored for it alone."""
    left_out: int = 0
    """Names that are not kept: special files, what could not be read, what lies too deep."""
    unsettled: bool = False
    """Something ran that may have been writing while it was taken."""


class Rewound(Value):
    """The user went back: from here on nothing counts of what was said and done after that checkpoint.

    The workspace is as it was there. What was spent stays spent, and the entries in between stay written.
    """

    kind: Literal["rewound"] = "rewound"
    to: int
    digest: Annotated[str, VERBATIM]
    """Of the tree that was brought back."""
    removed: int
    """Names that were taken away or replaced."""
    made: int
    """Files and links that were written."""


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


class PostureMeasured(Value):
    """What probes inside found before anything else ran there. It equals the policy, or nothing starts."""

    kind: Literal["posture"] = "posture"
    probes: int
    cached: bool
    """Measured earlier, on the same image, policy, engine and kernel."""
    duration_s: float


class ApprovalAsked(Value):
    """A question to the user, written before anybody sees it."""

    kind: Literal["approval_asked"] = "approval_asked"
    approval: Annotated[str, VERBATIM]
    """Its name in this session, e.g. `a1`."""
    what: Literal["call", "network", "root", "secret", "host_path", "limits"]
    facts: tuple[tuple[str, str], ...]
    """What would happen, label and value, in the order they are shown."""
    said: str
    """The model's reason, in its own words; it proves nothing."""
    binding: Annotated[str, VERBATIM]
    """SHA-256 over all that the answer is bound to."""
    call_id: Annotated[str, VERBATIM] | None
    """The call that asks, where it is known."""
    timeout_s: float


class ApprovalAnswered(Value):
    kind: Literal["approval_answered"] = "approval_answered"
    approval: Annotated[str, VERBATIM]
    granted: bool
    code: Literal["approved", "denied", "no_approver", "approval_timeout", "approver_error", "changed"]
    scope: Literal["once", "session", "minutes", "always"] | None
    by: str
    """`terminal`, `another terminal`, `grant g1`, or nobody."""


class GrantChanged(Value):
    """A standing answer: given, ended by the user, or run out."""

    kind: Literal["grant"] = "grant"
    grant: Annotated[str, VERBATIM]
    change: Literal["given", "revoked", "expired"]
    what: str
    """In words, for people."""
    binding: Annotated[str, VERBATIM]
    scope: Literal["session", "minutes", "always"]
    until: float | None
    """Seconds since the epoch, for `minutes`."""
    petition: Literal["call", "network", "root", "secret", "host_path", "limits"] | None = None
    """What was asked for."""
    bound: JsonObject | None = None
    """All that the answer is bound to, so that a resumed session has it again: `binding` is its digest."""


class EgressDecided(Value):
    """A connection through the gate, or one request of it, decided; before anything is sent."""

    kind: Literal["egress"] = "egress"
    connection: int
    protocol: Literal["connect", "http", "https", "socks5", "unknown"]
    host: str
    """Canonical, or what was said where it has no clear reading."""
    port: int
    decision: Literal["allow", "deny"]
    rule: str
    reason: str
    method: str | None = None
    path: str | None = None
    """Without its query."""
    address: str | None = None
    """What was connected to."""
    exec_id: Annotated[str, VERBATIM] | None = None
    """The command whose descent opened it, as the container's init saw it; None where that is unknown."""
    program: str = ""


class EgressClosed(Value):
    kind: Literal["egress_closed"] = "egress_closed"
    connection: int
    bytes_out: int
    bytes_in: int
    duration_s: float
    why: str


class Resumed(Value):
    """Another process goes on with the session; written before it touches anything."""

    kind: Literal["resumed"] = "resumed"
    by: str
    """User and process."""
    model: str
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


Entry = (
    SessionStarted
    | WorkspaceCopied
    | SandboxOpened
    | MessageAdded
    | PromptQueued
    | PromptDropped
    | TurnDone
    | CallIntent
    | FileAhead
    | CallOutcome
    | Notice
    | PagesEvicted
    | Compacted
    | WindowLearned
    | Checkpointed
    | Rewound
    | ChildStarted
    | PostureMeasured
    | ApprovalAsked
    | ApprovalAnswered
    | GrantChanged
    | EgressDecided
    | EgressClosed
    | Resumed
    | TakenUp
    | SessionEnded
)

# --- signals: for whoever watches ---


class TextStreamed(Value):
    kind: Literal["text"] = "text"
    text: str
    thinking: bool = False


class CallStarted(Value):
    kind: Literal["call_started"] = "call_started"
    call: Call


class CallOutput(Value):
    """The last output of a running call."""

    kind: Literal["call_output"] = "call_output"
    call_id: Annotated[str, VERBATIM]
    tail: str
    total_bytes: int


class BudgetChanged(Value):
    kind: Literal["budget"] = "budget"
    turns: int
    tokens: int
    cost_usd: float | None
    elapsed_s: float


Signal = TextStreamed | CallStarted | CallOutput | BudgetChanged
Event = Entry | Signal

ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
