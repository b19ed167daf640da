"""Read policies: built-in profiles and TOML files, layer over layer, every mistake named by its line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policies.errors import PolicyError
from policies.mistakes import contradiction, example_errors, place, schema_errors
from policies.schema import Policy

__all__ = ["PROJECT_FILE", "PolicyError", "digest", "load", "load_project", "profiles"]

PROJECT_FILE = ".usermode.toml"
"""In a workspace: a policy that can only tighten (see tighten.py)."""
BARE = "none"
"""`extends = "none"`: the schema's own values and no rules, so only what the file allows is allowed."""
MAX_BYTES = 1 << 20
PROJECT_MAX_BYTES = 64 << 10
MAX_DOTS = 200
"""In one line: the parser's time grows with the square of a key's parts, and a project may be hostile."""
T = TypeVar("T", bound=BaseModel)


def load(source: str | Path, *layers: Path) -> Policy:
    """A policy by profile name or file, with further files laid over it in order.

    A `str` without a slash that does not end in `.toml` names a built-in profile; everything else is a
    file, which extends the profile it names by `extends`, or `strict`. Later files override single keys
    and add rules. Raises PolicyError.
    """
    if isinstance(source, str) and "/" not in source and not source.endswith(".toml"):
        policy = _profile(source)
    else:
        policy = _file(Path(source), None)
    for layer in layers:
        policy = _file(layer, policy)
    return policy


def load_project(path: Path) -> Policy:
    """What a project's own file says and nothing else, for `tighten`. Raises PolicyError."""
    return read_project(path)[0]


def read_project(path: Path) -> tuple[Policy, str]:
    """As `load_project`, and the SHA-256, in hex, of the very bytes that were read. Raises PolicyError."""
    data, extends, text = _parse(path, str(path), PROJECT_MAX_BYTES, os.O_NOFOLLOW)
    if extends is not None:
        reason = "a project's file can only tighten the policy it meets"
        raise PolicyError(path, reason, line=place(text, "extends"), key="extends")
    policy = _validate(data, text, str(path), default_name="project")
    return policy, hashlib.sha256(text.encode()).hexdigest()


def over(base: Policy, layer: Policy) -> Policy:
    """`base` with every field replaced that `layer` sets, and its rules added: of a file that is trusted."""
    merged = _overlay(base, layer.model_copy(update={"name": base.name, "rules": ()}))
    return merged.model_copy(update={"rules": base.rules + layer.rules})


def check(path: Path) -> list[PolicyError]:
    """Every mistake of a file that can be told at once, in the order of the file; empty if it loads."""
    try:
        policy = load_project(path) if path.name == PROJECT_FILE else load(path)
    except PolicyError as first:
        return _others(path, first)
    assert policy.name
    return []


def read_examples(path: Path) -> Policy:
    """A file on its own, whether or not its rules' examples come out as written. Raises PolicyError."""
    data, _, text = _parse(path, str(path), MAX_BYTES)
    return _validate(data, text, str(path), default_name=_name_from(path), examples=False)


def profiles() -> tuple[str, ...]:
    """Names of the built-in profiles."""
    names = [entry.name for entry in (resources.files("policies") / "profiles").iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def digest(policy: Policy) -> str:
    """SHA-256, in hex, of the policy's canonical JSON: equal exactly for equal policies."""
    text = json.dumps(
        policy.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _profile(name: str) -> Policy:
    if name not in profiles():
        known = ", ".join(profiles())
        raise PolicyError(name, f"no such profile; there are {known} (a file is named with a slash or .toml)")
    file = resources.files("policies") / "profiles" / f"{name}.toml"
    label = f"profile {name}"
    text = file.read_text(encoding="utf-8")
    return _validate(_toml(text, label), text, label, default_name=name)


def _file(path: Path, base: Policy | None) -> Policy:
    label = str(path)
    data, extends, text = _parse(path, label, MAX_BYTES)
    layer = _validate(data, text, label, default_name=_name_from(path))
    if base is None:
        base = _base(extends, path, text).model_copy(update={"name": layer.name})
    elif extends is not None:
        reason = "a file laid over another extends that one"
        raise PolicyError(label, reason, line=place(text, "extends"), key="extends")
    rules = base.rules + layer.rules
    policy = _overlay(base, layer).model_copy(update={"rules": rules})
    if found := contradiction(policy):
        key, reason = found
        raise PolicyError(label, reason, line=place(text, *key.split(".")), key=key)
    return policy


def _others(path: Path, first: PolicyError) -> list[PolicyError]:
    """The first mistake, or all of its kind: of the schema, or, where that is fine, of the examples."""
    try:
        data, _, text = _parse(path, str(path), MAX_BYTES)
        policy = _validate(data, text, str(path), default_name="policy", examples=False)
    except PolicyError as error:
        cause = error.__cause__
        return schema_errors(cause, text, str(path)) if isinstance(cause, ValidationError) else [first]
    return example_errors(policy, text, str(path)) or [first]


def _base(extends: object, path: Path, text: str) -> Policy:
    if extends is None:
        return _profile("strict")
    if extends == BARE:
        return Policy(name=BARE)
    if isinstance(extends, str) and extends in profiles():
        return _profile(extends)
    known = ", ".join((*profiles(), BARE))
    reason = f"names a built-in profile: {known}"
    raise PolicyError(path, reason, line=place(text, "extends"), key="extends")


def _name_from(path: Path) -> str:
    name = re.sub(r"[^a-z0-9_.-]+", "-", path.stem.lower()).lstrip("_.-")[:64]
    return name or "policy"


def _parse(path: Path, label: str, max_bytes: int, flags: int = 0) -> tuple[dict[str, Any], object, str]:
    text = _read(path, max_bytes, flags)
    data = _toml(text, label)
    if not data:
        raise PolicyError(label, "the file is empty; it says nothing, not even `extends`")
    extends = data.get("extends")
    return {key: value for key, value in data.items() if key != "extends"}, extends, text


def _read(path: Path, max_bytes: int, flags: int) -> str:
    try:
        # Non-blocking: a FIFO of that name must not hold anyone up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise PolicyError(path, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(max_bytes + 1)
        finally:
            os.close(fd)
    except OSError as exc:
        reasons = {errno.ENOENT: "no such file", errno.ELOOP: "is a symbolic link"}
        raise PolicyError(path, reasons.get(exc.errno or 0, f"cannot be read: {exc.strerror}")) from exc
    except ValueError as exc:
        if isinstance(exc, PolicyError):
            raise
        raise PolicyError(path, "is not the name of a file") from exc
    if len(raw) > max_bytes:
        raise PolicyError(path, f"is larger than {max_bytes >> 10} KiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise PolicyError(path, "is not UTF-8", line=line) from exc


def _toml(text: str, label: str) -> dict[str, Any]:
    for number, content in enumerate(text.split("\n"), 1):
        if content.count(".") > MAX_DOTS:
            raise PolicyError(label, f"more than {MAX_DOTS} dots in one line; split it", line=number)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message, _, place = str(exc).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        last = text.rstrip().count("\n") + 1
        line = int(found.group(1)) if found else last
        if "overwrite" in message or "twice" in message or "Duplicate" in message:
            message = f"a key or table stands here for the second time ({message[0].lower()}{message[1:]})"
        raise PolicyError(label, f"not TOML: {message}", line=line) from exc
    except RecursionError as exc:
        raise PolicyError(label, "not TOML: nested too deeply") from exc
    except ValueError as exc:
        # Dates that no calendar has, integers of more digits than Python converts.
        raise PolicyError(label, f"not TOML: {exc}") from exc


def _validate(
    data: dict[str, Any], text: str, label: str, *, default_name: str, examples: bool = True
) -> Policy:
    """The file on its own as a Policy; which fields it set stays visible in `model_fields_set`."""
    try:
        # By way of JSON, because there a list may become a tuple while strictness still refuses "2" for 2.
        encoded = json.dumps({"name": default_name, **data}, default=_refuse_dates)
        policy = Policy.model_validate_json(encoded, strict=True)
    except RecursionError as exc:
        raise PolicyError(label, "nested too deeply") from exc
    except ValidationError as exc:
        raise schema_errors(exc, text, label)[0] from exc
    if examples and (failed := example_errors(policy, text, label)):
        raise failed[0]
    if "name" not in data:
        policy = Policy.model_construct(policy.model_fields_set - {"name"}, **dict(policy))
    return policy


def _refuse_dates(value: object) -> object:
    return {"a date or time": str(value)}  # No field is a table of that key, so the schema names the place.


def _overlay(base: T, layer: T) -> T:
    """`base` with every field replaced that `layer` sets explicitly."""
    update: dict[str, Any] = {}
    for field in layer.model_fields_set:
        ours, theirs = getattr(base, field), getattr(layer, field)
        update[field] = _overlay(ours, theirs) if isinstance(theirs, BaseModel) else theirs
    return base.model_copy(update=update)
