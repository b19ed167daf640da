"""A session that runs, from another terminal: `say`, `queue`, `cancel`, `kill`, `port`."""

from typing import Annotated

import typer

from harness.cli.options import Json, Session


def say(
    session: Session,
    text: Annotated[str, typer.Argument(help="What to say, in words; `-` reads it from standard input.")],
    following: Annotated[
        bool, typer.Option("--next", help="As the beginning of a turn of its own, after this one.")
    ] = False,
) -> int:
    """Say something to a running session.

    Without --next the model reads it before its next step.
    """
    from harness.commands import inbox

    return inbox.say_to(session, text, following=following)


def queue(
    session: Session = "last",
    drop: Annotated[str | None, typer.Option("--drop", help="Take this prompt back, e.g. q1.")] = None,
    json: Json = False,
) -> int:
    """List what was said and not read, or take it back."""
    from harness.commands import inbox

    return inbox.queue(session, drop, json=json)


def cancel(
    session: Session,
    call: Annotated[
        str | None, typer.Argument(help="A call's id, as `usermode log` shows it; the turn if not given.")
    ] = None,
) -> int:
    """Stop one call of a running session, or its turn.

    What it did so far is kept.
    """
    from harness.commands import inbox

    return inbox.cancel(session, call)


def kill(session: Session) -> int:
    """End a running session and its container.

    Its changes stay, for `diff` and `apply`.
    """
    from harness.commands import kill as command

    return command.kill(session)


def port(
    session: Session,
    ports: Annotated[str, typer.Argument(metavar="PORT[:LOCAL]", help="A port inside, and one here.")],
) -> int:
    """Reach a port of a running session, until Ctrl-C."""
    from harness.commands import port as command

    return command.port(session, ports)
