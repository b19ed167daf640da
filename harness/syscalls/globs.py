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
    return any(_match(wanted, names) for wanted in _alternatives(pattern))


def _match(wanted: tuple[str, ...], names: list[str]) -> bool:
    """Names against a pattern, one step at a time (reachable states), so that no pattern takes long."""
    reached = _skip_stars({0}, wanted)
    for name in names:
        step = {at for at in reached if at < len(wanted) and wanted[at] == "**"}
        step |= {
            at + 1 for at in reached if at < len(wanted) and wanted[at] != "**" and _one(wanted[at], name)
        }
        reached = _skip_stars(step, wanted)
    return len(wanted) in reached


def _skip_stars(reached: set[int], wanted: tuple[str, ...]) -> set[int]:
    """`**` also stands for no directory at all. There are no two of them in a row."""
    return reached | {at + 1 for at in reached if at < len(wanted) and wanted[at] == "**"}


def _one(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


@lru_cache(maxsize=64)
def _alternatives(pattern: str) -> tuple[tuple[str, ...], ...]:
    """The names of each: `a{b,c}` is `ab` or `ac`; bounded, since braces multiply."""
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
    return tuple(map(_names, done))


def _names(alternative: str) -> tuple[str, ...]:
    names = alternative.strip("/").split("/")
    if len(names) == 1:
        names = ["**", *names]
    # Several `**` in a row mean no more than one.
    return tuple(name for at, name in enumerate(names) if name != "**" or names[at - 1 : at] != ["**"])
