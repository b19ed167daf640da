"""What a session changed, and where it stood before: `diff`, `apply`, `discard`, `rewind`, `fork`."""

from typing import Annotated

import typer

from harness.cli.options import Json, Paths, Session


def diff(
    session: Session = "last",
    paths: Paths = None,
    stat: Annotated[bool, typer.Option("--stat", help="Sizes and counts of lines, not the lines.")] = False,
    since: Annotated[
        int | None, typer.Option("--from", min=0, help="From this checkpoint on; 0 is the start.")
    ] = None,
    until: Annotated[
        int | None, typer.Option("--to", min=0, help="Up to this checkpoint; the latest if not given.")
    ] = None,
    json: Json = False,
) -> int:
    """Show what a session changed in its copy of the workspace."""
    if since is not None or until is not None:
        from harness.commands import between

        return between.between(session, since or 0, until, paths or [], stat=stat, json=json)
    from harness.commands import changes as command

    return command.diff(session, paths or None, stat=stat, json=json)


def apply(
    session: Session = "last",
    paths: Paths = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where your own file changed meanwhile.")
    ] = False,
    executable: Annotated[
        bool,
        typer.Option("--executable", help="Also files that would run on this machine later (hooks, CI, …)."),
    ] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Show each change and ask.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> int:
    """Write a session's changes, or some, into your directory."""
    from harness.commands import changes as command

    options = command.ApplyOptions(force, executable, interactive, dry_run)
    return command.apply(session, paths or None, options)


def discard(session: Session) -> int:
    """Drop a session's changes. Its journal stays."""
    from harness.commands import changes as command

    return command.discard(session)


def rewind(
    session: Session, to: Annotated[int, typer.Option("--to", min=0, help="A checkpoint's number.")]
) -> int:
    """Take an ended session back to a checkpoint.

    Its files, and what was said since.
    """
    from harness.commands import rewind as command

    return command.rewind(session, to)


def fork(
    session: Session,
    at: Annotated[
        int | None, typer.Option("--at", min=0, help="A checkpoint's number; the latest if not given.")
    ] = None,
) -> int:
    """Make another session of one, as it was at a checkpoint.

    Its files, and what was said until then.
    """
    from harness.commands import fork as command

    return command.fork(session, at)
