"""How a command is declared: a function that returns an exit code, its options as parameters.

Typer knows only flat parameters. Options that several commands share stand once, as the fields of a frozen
dataclass, and a command takes the whole as one parameter.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, cast

from harness.exits import guarded


def declared(command: Callable[..., int]) -> Callable[..., None]:
    """The command as Typer wants it: flat options, and every end of it an exit of the process."""
    taken = inspect.signature(command)
    shared: dict[str, type[Any]] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in taken.parameters.items():
        if is_dataclass(parameter.annotation):
            shared[name] = group = cast(type[Any], parameter.annotation)
            flat += inspect.signature(group).parameters.values()
        else:
            flat.append(parameter)

    @functools.wraps(command)
    def run(**typed: Any) -> None:
        with guarded() as leave:
            for name, group in shared.items():
                typed[name] = group(**{field.name: typed.pop(field.name) for field in fields(group)})
            leave(command(**typed))

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in flat}
    return run
