"""What sessions there are, and what their journals say: `ps`, `log`, `show`, `mem`, `verify`."""

from typing import Annotated

import typer

from harness.cli.options import Everything, Json, Session


def ps(everything: Everything = False, json: Json = False) -> int:
    """List sessions, the newest first."""
    from harness.commands import sessions

    return sessions.ps(everything=everything, json=json)


def log(session: Session = "last", json: Json = False) -> int:
    """Show what happened in a session, a line an entry."""
    from harness.commands import sessions

    return sessions.log(session, json=json)


def show(
    session: Session, entry: Annotated[str, typer.Argument(help="An entry's number, or a call's id.")]
) -> int:
    """Show one entry of a session's journal whole."""
    from harness.commands import sessions

    return sessions.show(session, entry)


def mem(session: Session = "last", everything: Everything = False, json: Json = False) -> int:
    """Show what a session's context is made of.

    Its pages, what is kept outside it, and what was paid.
    """
    from harness.commands import mem as command

    return command.mem(session, everything=everything, json=json)


def verify(
    session: Session = "last",
    head: Annotated[
        str | None, typer.Option("--head", help="The last hash you know; finds a cut-off end.")
    ] = None,
) -> int:
    """Check that a session's journal is whole and unaltered."""
    from harness.commands import sessions

    return sessions.verify(session, head)
