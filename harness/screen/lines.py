"""What a person is told of each event, as plain lines. The terminal's view and the plain view both say these.

Everything here comes from a model or from a container, so every character goes through `visible`: a line can
carry no escape sequence and no invisible character, and is bounded in length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.events import (
    ApprovalAnswered,
    ApprovalAsked,
    CallIntent,
    CallOutcome,
    Checkpointed,
    ChildStarted,
    Compacted,
    EgressClosed,
    EgressDecided,
    Event,
    GrantChanged,
    MessageAdded,
    Notice,
    PagesEvicted,
    PostureMeasured,
    PromptDropped,
    PromptQueued,
    Resumed,
    Rewound,
    SandboxOpened,
    SessionEnded,
    SessionStarted,
    TakenUp,
    TurnDone,
    WorkspaceCopied,
)
from harness.messages import Result
from harness.words import amount, bounded, clean_lines, counted, duration, summary

Tone = Literal["head", "text", "call", "output", "error", "notice", "end"]

OUTPUT_LINES = 8
"""Of a call's result, its last ones. All of it is in the journal: `usermode show`."""
_SAID_AT_THE_START = frozenset({"read", "grep", "glob"})
"""Calls whose result begins with what matters; a command's ends with it."""
BOUND = (
    "THE SESSION WORKS ON YOUR DIRECTORY ITSELF (workspace mode bind): what it writes or deletes there is "
    "written or deleted at once, without review or undo, and it can read all that is there, credentials too"
)


@dataclass(frozen=True)
class Line:
    tone: Tone
    text: str


def _took(event: CallOutcome) -> float:
    """Seconds. Of a command that was adopted its own: it ran longer than anybody here waited."""
    own = event.details.get("duration_s") if event.result.name == "bash" else None
    return max(event.duration_s, own) if isinstance(own, int | float) else event.duration_s


def _result(result: Result, duration_s: float) -> Iterator[Line]:
    ended = f"{bounded(result.error)} after {duration(duration_s)}" if result.error else duration(duration_s)
    yield Line("error" if result.error else "output", f"  {bounded(result.name)}: {ended}")
    shown = clean_lines(result.content.rstrip("\n"))
    if result.name in _SAID_AT_THE_START and len(shown) > OUTPUT_LINES:
        yield from (Line("output", f"  | {line}".rstrip()) for line in shown[:OUTPUT_LINES])
        yield Line("output", f"  | … {counted(len(shown) - OUTPUT_LINES, 'more line')}")
        return
    if len(shown) > OUTPUT_LINES:
        yield Line("output", f"  | … {counted(len(shown) - OUTPUT_LINES, 'line')} before")
    yield from (Line("output", f"  | {line}".rstrip()) for line in shown[-OUTPUT_LINES:])


def _asked(event: ApprovalAsked) -> Iterator[Line]:
    """Facts first; the model's own words last, and as its words."""
    yield Line("notice", f"question {bounded(event.approval)} to the user: {event.what}")
    yield from (Line("notice", f"  {bounded(label)}: {bounded(value)}") for label, value in event.facts)
    if event.said:
        yield Line("output", f"  the model says: “{bounded(event.said, 200)}”")
    wait = f"  waits {duration(event.timeout_s)} for an answer"
    yield Line("output", f"{wait}, here or from another terminal (usermode approvals)")


def _answered(event: ApprovalAnswered) -> Line:
    by = f", by {bounded(event.by)}" if event.by != "nobody" else ""
    if event.granted:
        return Line("notice", f"{bounded(event.approval)} allowed ({event.scope}){by}")
    return Line("error", f"{bounded(event.approval)} not allowed: {event.code}{by}")


def _connection(event: EgressDecided) -> Iterator[Line]:
    what = f"{event.method} {event.path or ''}" if event.method else event.protocol
    where = f"{bounded(event.host)}:{event.port}"
    verdict = "allowed" if event.decision == "allow" else "refused"
    text = f"  network #{event.connection} {where} {bounded(what)}: {verdict}, {bounded(event.rule)}"
    if event.decision == "allow":
        yield Line("output", text)
        return
    yield Line("error", text)
    yield Line("error", f"    {bounded(event.reason)}")


def _checkpoint(event: Checkpointed) -> Line:
    what = "the workspace as it came" if event.number == 0 else f"{counted(event.files, 'file')} changed"
    left = f", {counted(event.left_out, 'name')} not kept" if event.left_out else ""
    moving = ", while something may have been writing" if event.unsettled else ""
    return Line("output", f"  checkpoint {event.number}: {what}{left}{moving}")


def _model(event: SessionStarted | Resumed) -> str:
    """The model, and where it answers if that is not its provider's own place."""
    return bounded(event.model) + (f" at {bounded(event.service)}" if event.service is not None else "")


def lines(event: Event) -> Iterator[Line]:
    """What to print, once and for good, when this event happens; nothing for most signals."""
    match event:
        case SessionStarted():
            yield Line("head", f"session {bounded(event.session)} · model {_model(event)}")
            policy = bounded(str(event.policy.get("name", "?")))
            if event.forked is not None:
                source, number = bounded(event.forked.session), event.forked.checkpoint
                yield Line("head", f"forked from {source} at checkpoint {number}, which follows up to there")
            if event.parent is not None:
                name, parent = bounded(event.parent.name), bounded(event.parent.session)
                yield Line("head", f"child {name} of {parent}")
            yield Line(
                "head", f"policy {policy} · image {bounded(event.image)} · runtime {bounded(event.runtime)}"
            )
        case WorkspaceCopied():
            left = f", {event.excluded_total} left out" if event.excluded_total else ""
            files = counted(event.files, "file")
            match event.mode:
                case "copy":
                    yield Line("head", f"workspace copied: {files}, {amount(event.bytes, 'B')}{left}")
                case "overlay":
                    yield Line(
                        "head", f"workspace overlaid: {files}{left}; what you alter there meanwhile shows"
                    )
                case "bind":
                    yield Line("error", BOUND)
            yield from (
                Line("notice", f"  left out {bounded(reason)}") for reason in event.excluded[:OUTPUT_LINES]
            )
        case SandboxOpened():
            yield Line("head", "sandbox open: contained as the policy says")
        case MessageAdded() if event.message.role == "assistant" and event.message.text.strip():
            yield from (Line("text", line) for line in clean_lines(event.message.text.strip("\n")))
        case MessageAdded() if event.prompt is not None:
            said = clean_lines(event.message.text.strip("\n"))
            yield from (Line("head", f"› {line}") for line in said[:OUTPUT_LINES])
            if len(said) > OUTPUT_LINES:
                yield Line("head", f"› … {counted(len(said) - OUTPUT_LINES, 'more line')}")
        case PromptQueued():
            before = "the next request" if event.when == "request" else "the next turn"
            yield Line("notice", f"{event.prompt} waits for {before}: {bounded(event.text.strip(), 160)}")
        case PromptDropped():
            yield Line("notice", f"{bounded(event.prompt)} was taken back")
        case TurnDone() if event.status != "done":
            yield Line("notice", f"{event.status}: {bounded(event.reason)}")
        case CallIntent():
            yield Line("call", summary(event.call))
            if event.decision != "allow":
                yield Line("notice", f"  {event.decision}: {bounded(event.rule)}")
        case CallOutcome():
            yield from _result(event.result, _took(event))
        case Checkpointed():
            yield _checkpoint(event)
        case Rewound():
            changed = f"{counted(event.removed, 'name')} taken away, {counted(event.made, 'file')} written"
            yield Line("notice", f"taken back to checkpoint {event.to}: {changed}")
        case ChildStarted():
            yield Line("notice", f"  child {bounded(event.name)}: session {bounded(event.session)}")
        case PostureMeasured():
            when = "earlier, of the same parts" if event.cached else f"in {duration(event.duration_s)}"
            yield Line("head", f"posture: {counted(event.probes, 'probe')} inside as configured ({when})")
        case ApprovalAsked():
            yield from _asked(event)
        case ApprovalAnswered():
            yield _answered(event)
        case GrantChanged():
            scope = f" for {event.scope}" if event.change == "given" else ""
            yield Line("notice", f"grant {bounded(event.grant)} {event.change}{scope}: {bounded(event.what)}")
        case EgressDecided():
            yield from _connection(event)
        case EgressClosed():
            moved = f"{amount(event.bytes_out, 'B')} out, {amount(event.bytes_in, 'B')} in"
            yield Line("output", f"  network #{event.connection} ended: {moved}; {bounded(event.why)}")
        case Resumed():
            yield Line("head", f"resumed by {bounded(event.by)} · model {_model(event)}")
        case TakenUp():
            how = {
                "attached": "in the container it was left in",
                "reopened": "in a new container over its own workspace",
                "new": "from the start",
            }
            yield Line("head", f"the session goes on {how[event.sandbox]}")
            for one in event.calls:
                yield Line("notice", f"  {bounded(one.name)} was under way: {one.fate.replace('_', ' ')}")
        case PagesEvicted():
            pages = counted(len(event.pages), "result")
            before, after = amount(event.tokens_before), amount(event.tokens_after)
            text = f"memory: {pages} put out of the context, {before} -> {after} tokens"
            yield Line("notice", text)
        case Compacted():
            before, after = amount(event.tokens_before), amount(event.tokens_after)
            alone = f", without a summary by the model: {bounded(event.fallback)}" if event.fallback else ""
            what = f"{counted(event.through, 'message')} summed up"
            yield Line("notice", f"memory: {what}, {before} -> {after} tokens{alone}")
        case Notice():
            tone: Tone = "error" if event.level == "error" else "notice"
            yield Line(tone, f"{event.level}: {bounded(event.text)}")
        case SessionEnded():
            tokens, changes = amount(event.usage.total), counted(event.changes, "file")
            spent = f"{counted(event.turns, 'turn')}, {tokens} tokens, {changes} changed"
            spent += f", {event.waiting} queued" if event.waiting else ""
            yield Line("end", f"{event.status}: {bounded(event.reason)} ({spent})")
