"""Trust in a project's own policy file: it may loosen only while it is, byte for byte, what was shown.

What was trusted is kept under the user's home for sessions, out of every workspace's reach: the file's real
path and the SHA-256 of its content. Another copy, a changed byte or a moved directory is not trusted.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.events import Notice
from harness.store import Store
from policies.load import PROJECT_FILE, over, read_project
from policies.mistakes import contradiction
from policies.schema import Policy
from policies.tighten import tighten

FILE = "trusted.json"
MAX_BYTES = 1 << 20

Standing = Literal["trusted", "changed", "unknown"]


@dataclass(frozen=True)
class ProjectFile:
    """A project's file as it was read, once."""

    path: Path
    """Real: no link stands in it."""
    policy: Policy
    digest: str
    """SHA-256 of the very bytes that `policy` was read from."""


def project_file(workspace: Path) -> ProjectFile | None:
    """The workspace's file; None where there is none. Raises PolicyError."""
    path = Path(os.path.realpath(workspace)) / PROJECT_FILE
    if not os.path.lexists(path):
        return None
    policy, digest = read_project(path)
    return ProjectFile(path, policy, digest)


class Trust:
    """Raises UsageError where the record cannot be read: what is not certain is not trusted in silence."""

    def __init__(self, home: Path) -> None:
        self._path = Store(home).home / FILE

    def standing(self, project: ProjectFile) -> Standing:
        known = self._read().get(str(project.path))
        if known is None:
            return "unknown"
        return "trusted" if known == project.digest else "changed"

    def give(self, project: ProjectFile) -> None:
        self._write({**self._read(), str(project.path): project.digest})

    def withdraw(self, workspace: Path) -> bool:
        """Whether it had been trusted."""
        known = self._read()
        found = known.pop(str(Path(os.path.realpath(workspace)) / PROJECT_FILE), None)
        if found is not None:
            self._write(known)
        return found is not None

    def _read(self) -> dict[str, str]:
        try:
            with open(self._path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise UsageError(f"{self._path} cannot be read: {exc.strerror}") from exc
        try:
            known = json.loads(raw)
            if len(raw) > MAX_BYTES or not isinstance(known, dict):
                raise ValueError
            if not all(isinstance(digest, str) for digest in known.values()):
                raise ValueError
        except ValueError as exc:
            raise UsageError(f"{self._path} is damaged; remove it, and trust again what you trust") from exc
        return known

    def _write(self, known: dict[str, str]) -> None:
        new = self._path.with_name(f".{FILE}-{secrets.token_hex(4)}")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(known, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as exc:
            new.unlink(missing_ok=True)
            raise UsageError(f"{self._path} cannot be written: {exc.strerror}") from exc


def in_force(
    policy: Policy, workspace: Path | None, home: Path, typed: Collection[str] = ()
) -> tuple[Policy, list[Notice]]:
    """The user's policy with the project's file laid over it, and what is to be said about that.

    Only a trusted file may loosen, and what was typed on the command line (dotted keys) not even that.
    Raises PolicyError and UsageError.
    """
    project = project_file(workspace) if workspace is not None else None
    if project is None:
        return policy, []
    tightened = tighten(policy, project.policy)
    standing = Trust(home).standing(project)
    if standing == "trusted" and tightened.ignored:
        text = f"it is trusted and loosens the policy: {len(tightened.ignored)} settings"
        whole = _kept(trusted(policy, project), tightened.policy, typed)
        return whole, [
            _notice("info", text),
            *(_notice("info", t) for t in tightened.ignored),
        ]
    notices = [_notice("warning", text) for text in tightened.ignored]
    if standing == "changed":
        text = "it has changed since it was trusted, so it only tightens; see `usermode policy trust`"
        notices.insert(0, _notice("warning", text))
    return tightened.policy, notices


def trusted(policy: Policy, project: ProjectFile) -> Policy:
    """The policy with a trusted file over it. Raises UsageError where the two contradict each other."""
    whole = over(policy, project.policy)
    if found := contradiction(whole):
        raise UsageError(f"{project.path}: {': '.join(found)}")
    return whole


def _kept(whole: Policy, tightened: Policy, typed: Collection[str]) -> Policy:
    for key in typed:
        table, field = key.split(".")
        value = getattr(getattr(tightened, table), field)
        changed = getattr(whole, table).model_copy(update={field: value})
        whole = whole.model_copy(update={table: changed})
    return whole


def _notice(level: Literal["info", "warning"], text: str) -> Notice:
    return Notice(level=level, code="policy", text=f"{PROJECT_FILE}: {text}")
