"""Policies, looked at and tried without a session: `policy …`."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json, PolicyName, Session

File = Annotated[Path, typer.Argument(help="A policy file.")]
Named = Annotated[str, typer.Argument(help="A profile's name or a policy file.")]


def list_() -> int:
    """List the built-in profiles."""
    from harness.commands import policy as command

    return command.list_profiles()


def show(name: Named = "strict") -> int:
    """Show a policy whole: every limit, every rule and why."""
    from harness.commands import policy as command

    return command.show(name)


def check(file: File) -> int:
    """Find every mistake of a policy file, with its line."""
    from harness.commands import policy as command

    return command.check(file)


def explain(
    call: Annotated[
        list[str] | None, typer.Argument(help="A syscall and its command line or path: -- bash 'git push'")
    ] = None,
    policy: PolicyName = "strict",
    path: Annotated[str | None, typer.Option("--path", help="Reading and writing this path.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Connecting there: HOST or HOST:PORT.")] = None,
) -> int:
    """Say what a policy makes of a call, and which rule decides."""
    from harness.commands import policy as command

    return command.why(policy, call or [], path, host)


def test(file: File) -> int:
    """Run the examples of a file's rules.

    Exit code 1 if one does not come out as written.
    """
    from harness.commands import policy as command

    return command.test(file)


def lint(
    name: Named,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when there are warnings.")] = False,
) -> int:
    """Point at settings that give away more than they seem to.

    And at those that do nothing.
    """
    from harness.commands import policy as command

    return command.lint(name, strict=strict)


def replay(session: Session, policy: PolicyName = "strict", json: Json = False) -> int:
    """Decide a recorded session again.

    Exit code 1 if anything would be decided otherwise.
    """
    from harness.commands import policy as command

    return command.replay(session, policy, json=json)


def trust(
    directory: Annotated[Path, typer.Argument(help="A directory with a .usermode.toml.")] = Path(),
    policy: PolicyName = "strict",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Let a project's own policy file loosen.

    It is trusted as long as it stays as it is now.
    """
    from harness.commands import trust as command

    return command.trust(directory, policy, yes=yes)


def distrust(
    directory: Annotated[Path, typer.Argument(help="A directory that was trusted.")] = Path(),
) -> int:
    """Take that trust back."""
    from harness.commands import trust as command

    return command.distrust(directory)
