"""The syscall table: what a model can name. A syscall exists because it has a row here; the order is fixed.

The schemas are byte-stable for a given version, so that a provider's cache of the prompt's beginning holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, cast

from harness.messages import JsonObject
from harness.provider import ToolSpec
from harness.syscalls import bash, glob, grep, job, merge, plan, read, recall, spawn, sudo, write
from harness.syscalls.base import Arguments, Syscall


def _always(arguments: Arguments) -> bool:
    return True


_ROWS = (
    Syscall(
        "bash",
        "Run shell text in the sandbox and wait for its end. The working directory carries over to the next "
        "call; variables and functions do not. Standard input is empty. Long output is shown as head and "
        "tail, with the path of a file that holds all of it. What runs for long comes back as a job (`job`).",
        bash.Bash,
        bash.access,
        bash.bash,
        moves=True,
    ),
    Syscall(
        "read",
        "Read a text file as numbered lines, or list a directory. Go on in a long file with `offset`.",
        read.Read,
        read.access,
        read.read,
        repeats=_always,
    ),
    Syscall(
        "write",
        "Create a file or replace all of it. To change a part of an existing file use `edit`.",
        write.Write,
        write.access,
        write.write,
    ),
    Syscall(
        "edit",
        "Replace exact text in a file. Each `old` must occur exactly once, unless `all` is set; give it "
        "without the line numbers that `read` shows.",
        write.Edit,
        write.access,
        write.edit,
    ),
    Syscall(
        "grep",
        "Search the contents of files for a regular expression. Results read path:line:text.",
        grep.Grep,
        grep.access,
        grep.grep,
        repeats=_always,
    ),
    Syscall(
        "glob",
        "Find files by the pattern of their path.",
        glob.Glob,
        glob.access,
        glob.glob,
        repeats=_always,
    ),
    Syscall(
        "job",
        "Look at (poll), type into (input) or end (kill) a command that runs on as a job, or list the jobs. "
        "A poll shows what is new since the last one.",
        job.JobArguments,
        job.access,
        job.job,
        repeats=job.only_looks,
    ),
    Syscall(
        "plan",
        "Keep a plan of the steps of a longer task and show it to the user. Send the whole plan each time.",
        plan.Plan,
        plan.access,
        plan.plan,
        repeats=_always,
    ),
    Syscall(
        "recall",
        "Bring back what is no longer in your context: a page by its name, or a search through all of this "
        "session. It shows what was recorded then; files may have changed since.",
        recall.Recall,
        recall.access,
        recall.recall,
        repeats=_always,
    ),
    Syscall(
        "sudo",
        "Ask the user for one thing that the sandbox does not have: a host to reach, a command as root, the "
        "use of a secret, a copy of a file of the user's machine, or higher limits. Name exactly one. The "
        "answer may be no, and it may take minutes.",
        sudo.Sudo,
        sudo.access,
        sudo.sudo,
        petitions=True,
    ),
    Syscall(
        "spawn",
        "Start another session on a copy of the workspace as it is now, for a task that stands on its own, "
        "and wait for its end. It has its own container and context, this session's rules or stricter ones, "
        "and a share of what is left of this session's budget. Several in one message run at the same time. "
        "What it changed comes back as a diff; `merge` takes it over.",
        spawn.Spawn,
        spawn.access,
        spawn.spawn,
    ),
    Syscall(
        "merge",
        "Take over the files that a child changed, or some of them. A file that has changed here since the "
        "child was started is left alone and named.",
        merge.Merge,
        merge.access,
        merge.merge,
    ),
)
TABLE: Mapping[str, Syscall] = MappingProxyType({row.name: row for row in _ROWS})


def tool_specs(rows: Iterable[Syscall] = _ROWS) -> tuple[ToolSpec, ...]:
    """The table as it is offered to a model."""
    return tuple(ToolSpec(row.name, row.description, schema(row.arguments)) for row in rows)


@cache
def schema(arguments: type[Arguments]) -> JsonObject:
    """JSON Schema of the arguments, plain enough for every server: no titles, references or nulls."""
    whole = arguments.model_json_schema()
    return cast(JsonObject, _plain(whole, whole.get("$defs", {})))


def _plain(node: Any, known: JsonObject) -> Any:
    if isinstance(node, list):
        return [_plain(item, known) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(known[node["$ref"].rsplit("/", 1)[-1]], known)
    some = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
    if len(some) == 1 and len(node["anyOf"]) == 2:
        # An optional argument is left out, so its null need not be spelled.
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _plain({**some[0], **rest}, known)
    plain: JsonObject = {}
    for key, value in node.items():
        if key == "properties":
            plain[key] = {name: _plain(field, known) for name, field in value.items()}
        elif key not in ("title", "$defs", "description") or (
            key == "description" and "properties" not in node
        ):
            plain[key] = _plain(value, known)
    return plain
