"""What a syscall is: a row of the table, what it touches, what it is handed, what it gives back.

Arguments come from the model and were checked before a handler sees them. A handler says what is to be
done; where it happens is the sandbox's affair. It raises Refused for what the model can mend, lets
SandboxError pass, and turns a CancelledError into an outcome when it has partial results worth keeping.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.approvals.service import Approvals
from harness.memory.index import Index
from harness.messages import JsonObject
from harness.process.children import Children
from harness.process.outlet import Outlet
from harness.process.session import Session
from policies.schema import Limits, Policy
from sandbox.protocol import Sandbox

Code = Literal[
    "unknown_syscall",
    "malformed_json",
    "bad_arguments",
    "too_large",
    "denied",
    "cancelled",
    "timed_out",
    "out_of_memory",
    "disk_full",
    "busy",
    "failed",
    "not_found",
    "not_text",
    "is_directory",
    "not_directory",
    "permission",
    "symlink",
    "special_file",
    "no_match",
    "ambiguous",
    "conflict",
    "sandbox_gone",
    "no_approver",
    "approval_timeout",
    "approver_error",
    "changed",
    "not_run",
    "unknown",
]
"""Every error code a result can carry; docs/kernel.md says what each means. A name, once given, stays."""


class Refused(Exception):
    """The call was not done, for a reason the model can act on."""

    def __init__(self, code: Code, content: str) -> None:
        super().__init__(content)
        self.code: Code = code
        self.content = content


class Arguments(BaseModel):
    """Base of every syscall's arguments: an unknown one is an error, so that a typo is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Access:
    """What a call touches, for the scheduler and the policy.

    A path stands for itself and all beneath it; a name without a leading slash is a resource of the session.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    command: str | None = None
    """Shell text, for the policy's rules on commands."""
    cwd: str | None = None
    """Where that command runs, if not in the working directory."""
    path: str | None = None
    """The path that the policy's rules on paths are asked about."""
    host: str | None = None
    """The host that the policy's rules on hosts are asked about."""


@dataclass(frozen=True)
class Outcome:
    content: str
    error: Code | None = None
    details: JsonObject = field(default_factory=dict)
    held: str | None = None
    """The execution id whose record the sandbox keeps until this outcome is in the journal."""


OnOutput = Callable[[str, int], None]
"""Told the last output of a running command, and the bytes it has written in all."""


Announce = Callable[[str, str | None, str], Awaitable[None]]
"""Writes down what a file is about to become: path, digest now ("" for none, None unknown), digest then."""


async def unannounced(path: str, before: str | None, after: str) -> None:
    """Where nothing is to survive."""


@dataclass(frozen=True)
class Context:
    """What a handler works with."""

    session: Session
    sandbox: Sandbox
    limits: Limits
    cwd: str
    """What relative paths start at: the directory that the policy decided with."""
    exec_id: str
    """For the one command that is the call's effect: the sandbox executes it at most once."""
    call_id: str
    policy: Policy
    approvals: Approvals
    """For what needs the user's consent."""
    outlet: Outlet | None = None
    """The way out of the sandbox; None where there is none at all."""
    keep_out: tuple[Path, ...] = ()
    """Directories of the host of which nothing is ever copied in."""
    archive: Index | None = None
    """The pages of the session's journal."""
    announce: Announce = unannounced
    """Awaited before a file is replaced."""
    children: Children | None = None
    """Starts sessions for this one; None where none can be."""
    on_output: OnOutput | None = None
    """None when nobody watches."""


@dataclass(frozen=True)
class Syscall:
    """A row of the table."""

    name: str
    description: str
    arguments: type[Arguments]
    access: Callable[[Any, str], Access]
    """From the arguments and the working directory."""
    handler: Callable[[Context, Any], Awaitable[Outcome]]
    petitions: bool = False
    """It asks the user itself, so a rule that says `ask` adds no question of its own."""
    repeats: Callable[[Any], bool] = lambda arguments: False
    """Whether it may be done once more when nobody knows if it was: it changes nothing."""
    moves: bool = False
    """It may change the working directory, so what comes after it in a message is prepared after it ran."""


def resolve(path: str, cwd: str) -> str:
    """An absolute path without `.` and `..`, by its text alone; a NUL or a lone surrogate is refused."""
    if "\0" in path:
        raise Refused("bad_arguments", "path: a path holds no NUL byte")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Refused("bad_arguments", "path: this text has no UTF-8 form (a lone surrogate)") from None
    if len(path) > 4096:
        raise Refused("bad_arguments", "path: longer than 4,096 characters")
    # POSIX leaves two leading slashes alone; inside there is only one root.
    return "/" + posixpath.normpath(posixpath.join(cwd, path)).lstrip("/")
