"""`usermode policy trust` and `distrust`: let a project's own policy file loosen, after looking at it."""

from __future__ import annotations

import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from harness.commands.say import say
from harness.errors import UsageError
from harness.store import home
from harness.trust import Trust, project_file, trusted
from policies import Policy, load
from policies.index import describe_rule
from policies.load import PROJECT_FILE
from policies.tighten import tighten


def trust(directory: Path, policy_name: str, *, yes: bool) -> int:
    """Show what the file would loosen, and ask. Nothing is trusted without a yes that was typed out."""
    policy = load(policy_name)
    project = project_file(directory)
    if project is None:
        raise UsageError(f"{directory} has no {PROJECT_FILE}")
    ledger = Trust(home())
    if ledger.standing(project) == "trusted":
        say(f"{project.path} is trusted as it stands")
        return 0
    trusted(policy, project)  # What could never be in force is not asked about.
    say(f"{project.path}, sha256 {project.digest}, says:")
    for text in _says(project.policy):
        say(f"  {text}")
    loosens = tighten(policy, project.policy).ignored
    say(f"Of this would loosen the policy {policy.name}:{'' if loosens else ' nothing'}")
    for text in loosens:
        say(f"  {text}")
    if not yes and not _agreed():
        say("not trusted; it can only tighten")
        return 1
    ledger.give(project)
    say("trusted, until it changes")
    return 0


def distrust(directory: Path) -> int:
    found = Trust(home()).withdraw(directory)
    say("no longer trusted; it can only tighten" if found else "it was not trusted")
    return 0


def _says(policy: Policy) -> Iterator[str]:
    """All that a file sets, whatever policy it will meet."""
    for name, table in policy:
        if name in policy.model_fields_set and isinstance(table, BaseModel):
            yield from (f"{name}.{key}: {getattr(table, key)}" for key in sorted(table.model_fields_set))
        elif name in policy.model_fields_set and name not in ("rules", "name"):
            yield f"{name}: {table}"
    for number, rule in enumerate(policy.rules, 1):
        yield f"{describe_rule(number, rule)}: {rule.reason}"


def _agreed() -> bool:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UsageError("nobody can be asked here; look at what it loosens, then give --yes")
    sys.stdout.write("Trust exactly this file? Type yes: ")
    sys.stdout.flush()
    # What was typed before the question was seen is no answer to it.
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    return sys.stdin.readline() == "yes\n"
