"""Glob patterns over paths, pure: `*` and `?` within a name, `**` across directories, `[…]`, and `{a,b}`."""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache

from harness.syscalls.base import Refused

_MAX_ALTERNATIVES = 64


def matches(pattern: str, path: str) -> bool:
    """Whether a relative path matches; a pattern without a slash is about the last name, at any depth."""
    names = path.split("/")
    for alternative in _alternatives(pattern):
        wanted = alternative.strip("/").split("/")
        if len(wanted) == 1 and wanted[0] != "**":
            wanted = ["**", *wanted]
        if _match(wanted, names):
            return True
    return False


def _match(wanted: list[str], names: list[str]) -> bool:
    """Names against a pattern, one step at a time (reachable states), so that no pattern takes long."""
    reached = _skip_stars({0}, wanted)
    for name in names:
        step = {at for at in reached if at < len(wanted) and wanted[at] == "**"}
        step |= {
            at + 1 for at in reached if at < len(wanted) and wanted[at] != "**" and _one(wanted[at], name)
        }
        reached = _skip_stars(step, wanted)
    return len(wanted) in reached


def _skip_stars(reached: set[int], wanted: list[str]) -> set[int]:
    """`**` also stands for no directory at all."""
    for at in sorted(reached):
        while at < len(wanted) and wanted[at] == "**":
            at += 1
            reached = reached | {at}
    return reached


def _one(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


@lru_cache(maxsize=64)
def _alternatives(pattern: str) -> tuple[str, ...]:
    """`a{b,c}` is `ab` or `ac`; bounded, since braces multiply."""
    done: list[str] = []
    todo = [pattern]
    while todo:
        text = todo.pop()
        brace = re.search(r"\{([^{}]*,[^{}]*)\}", text)
        if brace is None:
            done.append(text)
        else:
            todo += [text[: brace.start()] + choice + text[brace.end() :] for choice in brace[1].split(",")]
        if len(done) + len(todo) > _MAX_ALTERNATIVES:
            raise Refused(
                "bad_arguments", f"pattern: its braces make more than {_MAX_ALTERNATIVES} alternatives"
            )
    return tuple(done)
