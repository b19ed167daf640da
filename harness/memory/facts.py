"""Facts of a session, folded from its journal: what a summary must not leave to a model's memory.

Paths, commands and hosts are the words of a model or of the guest. They are kept as data, and `quoted` is the
only way they are shown: on one line, escaped, between quotation marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from harness.events import CallIntent, CallOutcome, EgressDecided, Entry
from harness.messages import Result
from harness.visible import visible
from harness.words import bounded

KEPT = 400
"""Of each kind, the newest."""
_TEXT, _STEP = 240, 500
"""Characters of one quotation, and of a step of the plan, which has no more."""
T = TypeVar("T")
_MADE = {"read": "read", "write": "written", "edit": "edited"}


@dataclass(frozen=True)
class Ran:
    """A command, and how it ended the last time."""

    how: str
    said: str = ""
    """The last line it wrote, where it failed."""
    times: int = 1


@dataclass
class Facts:
    """Feed it every entry, in order. Bounded, whatever the session does."""

    files: dict[str, str] = field(default_factory=dict)
    commands: dict[str, Ran] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    """Those that still run: name and command."""
    grants: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    plan: tuple[tuple[str, str], ...] = ()
    """Status and step."""
    _open: dict[str, CallIntent] = field(default_factory=dict)
    """Intents without an outcome so far, by call id."""
    _anew: bool = field(default=False, compare=False)
    """Whether a container was opened: jobs of one before it have ended."""

    def feed(self, entry: Entry) -> None:
        match entry.kind:
            case "sandbox_opened":
                self.jobs.clear()
                self._anew = True
            case "call_intent":
                _put(self._open, entry.call.id, entry)
            case "call_outcome":
                self._ended(self._open.pop(entry.result.call_id, None), entry)
            case "grant" if entry.change == "given":
                _put(self.grants, entry.grant, f"{entry.what} ({entry.scope})")
            case "grant":
                self.grants.pop(entry.grant, None)
            case "approval_answered" if not entry.granted:
                _put(self.refusals, f"question {entry.approval}", entry.code)
            case "egress":
                _put(self.hosts, f"{entry.host}:{entry.port}", _reached(entry))

    def begin_with(self, earlier: Facts) -> None:
        """Put what an earlier process recorded before what this one did."""
        for kind in ("files", "commands", "jobs", "grants", "refusals", "hosts", "_open"):
            mine, before = getattr(self, kind), getattr(earlier, kind)
            if kind == "jobs" and self._anew:
                continue
            setattr(self, kind, {key: one for key, one in before.items() if key not in mine} | mine)
        self.plan = self.plan or earlier.plan

    def _ended(self, intent: CallIntent | None, entry: CallOutcome) -> None:
        result, details = entry.result, entry.details
        arguments = intent.call.arguments if intent is not None else {}
        if result.error == "denied":
            _put(self.refusals, _short(result.name, arguments), "denied" + _rule(intent))
        elif result.name in _MADE and result.error is None and isinstance(details.get("path"), str):
            _put(self.files, details["path"], self._state(result.name, details["path"]))
        elif result.name == "bash":
            self._command(str(arguments.get("command", "")), entry)
        elif result.name == "job" and details.get("running") is False:
            self.jobs.pop(str(details.get("job")), None)
        elif result.name == "plan" and isinstance(details.get("plan"), list):
            steps = (step for step in details["plan"] if isinstance(step, dict))
            self.plan = tuple((str(step.get("status")), str(step.get("step"))) for step in steps)

    def _state(self, name: str, path: str) -> str:
        """Reading a file does not undo that it was written."""
        before = self.files.get(path, "")
        return before if name == "read" and before and before != "read" else _MADE[name]

    def _command(self, command: str, entry: CallOutcome) -> None:
        details, error = entry.details, entry.result.error
        if isinstance(details.get("job"), str):
            how = f"goes on as {details['job']}"
            _put(self.jobs, details["job"], command)
        elif isinstance(details.get("exit_code"), int):
            how = f"exit code {details['exit_code']}" + (f", {error}" if error else "")
        else:
            how = error or "no exit code"
        failed = error is not None or details.get("exit_code") not in (0, None)
        before = self.commands.get(command)
        times = before.times + 1 if before is not None else 1
        _put(self.commands, command, Ran(how, _last_line(entry.result) if failed else "", times))

    def lines(self, tokens: int) -> list[str]:
        """Everything that fits into so many tokens, the newest of each kind first to be kept."""
        sections = [
            ("Plan", [f"- [{status}] {quoted(step, _STEP)}" for status, step in self.plan]),
            ("Jobs that still run", [f"- {name}: {quoted(command)}" for name, command in self.jobs.items()]),
            (
                "Standing grants of the user",
                [f"- {name}: {quoted(what)}" for name, what in self.grants.items()],
            ),
            ("Refused", [f"- {quoted(what)}: {quoted(why)}" for what, why in self.refusals.items()]),
            ("Files", [f"- {state}: {quoted(path)}" for path, state in self.files.items()]),
            ("Commands, in the order of their last run", [_ran(*item) for item in self.commands.items()]),
            ("Network", [f"- {quoted(host)}: {how}" for host, how in self.hosts.items()]),
        ]
        shown: list[str] = []
        kinds = sum(1 for _, lines in sections if lines)
        for title, lines in sections:
            if not lines:
                continue
            # An even share of what is left, so that no kind crowds out another.
            kept = list(_newest(lines, tokens // kinds))
            tokens, kinds = tokens - sum(map(text_tokens, kept)), kinds - 1
            left_out = len(lines) - len(kept)
            shown.append(f"{title}:" + (f" (the {left_out:,} before these are left out)" if left_out else ""))
            shown += kept
        return shown


def text_tokens(text: str) -> int:
    """A first guess, as for pages: a token for four bytes, and the line's end."""
    return 1 + -(-len(text.encode(errors="surrogatepass")) // 4)


def quoted(text: str, most: int = _TEXT) -> str:
    """Text of the guest's or a model's, as data: one line, escaped, bounded, between quotation marks."""
    return json.dumps(visible(cropped(text, most), multiline=True), ensure_ascii=False)


def cropped(text: str, most: int) -> str:
    """Head and tail of a text that is too long, in so many characters."""
    tail = most // 3
    return text if len(text) <= most else f"{text[: most - tail - 3]} … {text[-tail:]}"


def _newest(lines: Iterable[str], tokens: int) -> Iterator[str]:
    kept: list[str] = []
    for line in reversed(list(lines)):
        tokens -= text_tokens(line)
        if tokens < 0:
            break
        kept.append(line)
    return reversed(kept)


def _put(kept: dict[str, T], key: str, value: T) -> None:
    """As the newest; the oldest goes when there are too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > KEPT:
        del kept[next(iter(kept))]


def _ran(command: str, ran: Ran) -> str:
    again = f" ({ran.times} times)" if ran.times > 1 else ""
    said = f"; it ended with {quoted(ran.said)}" if ran.said else ""
    return f"- {quoted(command)}{again}: {ran.how}{said}"


def _last_line(result: Result) -> str:
    """Before our own closing line in brackets."""
    lines = [line.strip() for line in result.content[-4000:].split("\n")]
    said = [line for line in lines if line and not line.startswith(("[", "</"))]
    return bounded(said[-1], _TEXT) if said else ""


def _reached(entry: EgressDecided) -> str:
    return "reached" if entry.decision == "allow" else f"refused, {quoted(entry.rule)}"


def _rule(intent: CallIntent | None) -> str:
    return f" by {intent.rule}" if intent is not None and intent.rule else ""


def _short(name: str, arguments: dict[str, object]) -> str:
    return f"{name} {json.dumps(arguments, ensure_ascii=False)}"
