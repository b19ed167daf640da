"""What is wrong with a policy that TOML could read: each mistake with its line and its reason."""

from __future__ import annotations

import difflib
import json
from typing import Any

from pydantic import BaseModel, ValidationError

from policies.decide import applies_to_example
from policies.errors import PolicyError, printable
from policies.schema import Policy
from policies.toml_lines import Key, key_lines, line_of


def schema_errors(exc: ValidationError, text: str, label: str) -> list[PolicyError]:
    """At least one, in the order of the file."""
    lines = key_lines(text)
    found = [_schema_error(error, lines, label) for error in exc.errors(include_url=False)]
    return sorted(found, key=lambda error: error.line or 0)


def example_errors(policy: Policy, text: str, label: str) -> list[PolicyError]:
    """The examples of a file's rules that do not come out as they are written."""
    errors = []
    for number, rule in enumerate(policy.rules):
        for kind, examples in (("match", rule.match), ("not_match", rule.not_match)):
            for example in examples:
                applies = applies_to_example(rule, example)
                if isinstance(applies, bool) and applies == (kind == "match"):
                    continue
                reason = applies if isinstance(applies, str) else _example_failed(kind, example)
                key = f"rules[{number + 1}].{kind}"
                errors.append(PolicyError(label, reason, line=place(text, "rules", number, kind), key=key))
    return errors


def contradiction(policy: Policy) -> tuple[str, str] | None:
    """The key and the reason, where a policy asks for what its other settings make impossible."""
    if policy.network.intercept:
        return None
    if policy.network.requests:
        return "network.requests", "rules on requests need `network.intercept = true`"
    if policy.secrets.bound:
        return "secrets.bound", "a bound secret needs `network.intercept = true`: its value is put in there"
    return None


def place(text: str, *key: str | int) -> int | None:
    """The line of a key of a file, or of the nearest table that holds it."""
    return line_of(key_lines(text), key)


def _example_failed(kind: str, example: str) -> str:
    verb = "does not apply to its example" if kind == "match" else "applies to its counter-example"
    return f"the rule {verb} `{printable(example)}`"


def _schema_error(error: Any, lines: dict[Key, int], label: str) -> PolicyError:
    loc: Key = error["loc"]
    if error["type"] == "extra_forbidden":
        parent = loc[:-1]
        reason = f"unknown key `{printable(str(loc[-1]))}`"
        known = _fields_at(parent) if parent else ["extends", *_fields_at(parent)]
        close = difflib.get_close_matches(str(loc[-1])[:100], known, n=1)
        reason += f"; did you mean `{close[0]}`?" if close else f"; there are {', '.join(known)}"
    elif error["type"] == "missing":
        reason = "is missing"
    else:
        message = error["msg"].removeprefix("Value error, ")
        reason = message[0].lower() + message[1:]
        if not isinstance(error["input"], dict | list):
            reason += f", not {printable(json.dumps(error['input'], ensure_ascii=False), 80)}"
    return PolicyError(label, reason, line=line_of(lines, loc), key=_dotted(loc))


def _fields_at(parent: Key) -> list[str]:
    """Names of the fields of the table at that place of the schema."""
    model: type[BaseModel] = Policy
    for part in parent:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation
        model = annotation if isinstance(annotation, type) else annotation.__args__[0]
    return list(model.model_fields)


def _dotted(loc: Key) -> str:
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
