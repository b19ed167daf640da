"""This machine, its engine and its images: `doctor`, `attack`, `gc`, `image …`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Image, Json, PolicyName, Runtime


def doctor(json: Json = False) -> int:
    """Examine the engine and this machine.

    Says what each finding means.
    """
    from harness.commands import doctor as command

    return command.doctor(json=json)


def attack(
    policy: PolicyName = "strict",
    runtime: Runtime = None,
    image: Image = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="`docker`: try the same on a plain container, beside it.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Ids of docs/attacks.md, with commas between.")
    ] = None,
    json: Json = False,
) -> int:
    """Try known ways out of a session for real.

    Says which walls held; exit code 1 unless all did.
    """
    from harness.commands import attack as command

    return command.run(command.Aim(policy, image, runtime, baseline, tuple(only or ())), json=json)


def gc() -> int:
    """Remove containers and files that no session needs."""
    from harness.commands import gc as command

    return command.gc()


def build(
    names: Annotated[list[str] | None, typer.Argument(help="base, dev; both if none is named.")] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="Extra certificate authorities, a PEM file.")
    ] = None,
) -> int:
    """Build usermode's own images; later there is nothing to do."""
    from harness.commands import images as command

    return command.build(names or None, ca)


def list_() -> int:
    """List usermode's own images on the engine."""
    from harness.commands import images as command

    return command.show()
