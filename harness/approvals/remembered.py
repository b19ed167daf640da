"""Answers kept for good (`always`): one file of the user's own, for the policy they were given under.

It holds answers, not rules: a rule that denies still denies, and what differs in a word, a place or a byte of
a named file is asked about again. It is read when a session starts; a file that cannot be read whole starts
nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.approvals.petition import Petition, binding_of, endpoint
from policies.commands import keeps_meaning
from policies.errors import PolicyError
from policies.load import digest
from policies.patterns import canonical_host
from policies.schema import Limits, Policy
from policies.shell import parse

FILE = "grants.json"
MAX_BYTES = 4 << 20
MAX_GRANTS = 2000


class Kept(BaseModel):
    """One answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    policy: Annotated[str, Field(max_length=64)]
    """The policy's name, for people."""
    policy_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: Literal["network", "call"]
    subject: Annotated[str, Field(max_length=200_000)]
    bound: dict[str, Any]
    given: str
    """RFC 3339, UTC."""

    @property
    def binding(self) -> str:
        return binding_of(self.kind, self.bound)

    @model_validator(mode="after")
    def _may_be_kept(self) -> Kept:
        # The file is the user's to edit, and still cannot say what could not have been answered.
        if self.kind == "network":
            host, port = self.bound.get("host"), self.bound.get("port")
            if not isinstance(host, str) or canonical_host(host) != host or type(port) is not int:
                raise ValueError("a network grant names a canonical host and a port")
            if set(self.bound) != {"host", "port"} or self.subject != endpoint(host, port):
                raise ValueError("a network grant names a host and a port, and its subject says the same")
        elif not isinstance(command := self.bound.get("command"), str) or not lasting(command):
            raise ValueError("this command is none that can be allowed for good")
        elif self.subject != command:
            raise ValueError("the subject is the command")
        return self


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1]
    grants: Annotated[list[Kept], Field(max_length=MAX_GRANTS)]


class Remembered:
    """The kept answers of one policy; blocking, so it belongs into a thread."""

    def __init__(self, home: Path, policy: Policy) -> None:
        self._home = home
        self._name = policy.name
        # Limits are often typed for one session and change nothing about what was answered.
        self._digest = digest(policy.model_copy(update={"limits": Limits()}))

    def load(self) -> list[Petition]:
        """What was answered for good under this policy. PolicyError for a file that cannot be read whole."""
        return [
            Petition(one.kind, one.subject, (), "", one.bound)
            for one in read(self._home)
            if one.policy_digest == self._digest
        ]

    def keep(self, petition: Petition) -> None:
        """Add an answer. OSError, or PolicyError, when the file cannot be written or read."""
        assert petition.kind in ("network", "call")
        added = Kept(
            policy=self._name,
            policy_digest=self._digest,
            kind="network" if petition.kind == "network" else "call",
            subject=petition.subject,
            bound=dict(petition.bound),
            given=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with _exclusive(self._home):
            others = [one for one in read(self._home) if (one.policy_digest, one.binding) != _key(added)]
            _write(self._home, [*others, added])

    def forget(self, binding: str) -> None:
        """Drop an answer given under this policy."""
        with _exclusive(self._home):
            kept = read(self._home)
            left = [one for one in kept if (one.policy_digest, one.binding) != (self._digest, binding)]
            if left != kept:
                _write(self._home, left)


def read(home: Path) -> list[Kept]:
    """All that is kept, whatever the policy. PolicyError for a file that is not what we write."""
    path = home / FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise PolicyError(path, f"cannot be read: {exc.strerror}") from exc
    with open(fd, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise PolicyError(path, f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        return _File.model_validate_json(raw).grants
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in error["loc"])
        raise PolicyError(path, error["msg"], key=where) from exc


def forget_everywhere(home: Path, binding: str) -> list[Kept]:
    """Drop an answer whatever policy it was given under; what was dropped. `binding` may be a beginning."""
    with _exclusive(home):
        kept = read(home)
        dropped = [one for one in kept if one.binding.startswith(binding)]
        if dropped:
            _write(home, [one for one in kept if one not in dropped])
    return dropped


def _key(one: Kept) -> tuple[str, str]:
    return one.policy_digest, one.binding


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    fd = os.open(home / f"{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _write(home: Path, grants: list[Kept]) -> None:
    text = _File(version=1, grants=grants).model_dump_json(indent=1) + "\n"
    new = home / f".{FILE}.{secrets.token_hex(4)}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(home / FILE)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def lasting(command: str) -> bool:
    """Whether a yes to exactly this command may be kept for good."""
    commands = parse(command).commands
    return commands is not None and len(commands) == 1 and keeps_meaning(commands[0])
