"""Questions of sessions and the answers that stand: `approvals`, `approve`, `deny`, `grants`, `revoke`."""

from typing import Annotated

import typer

from harness.cli.options import Json, Session

Approval = Annotated[str, typer.Argument(help="Its name in the session, e.g. a1.")]


def approvals(
    session: Annotated[str | None, typer.Argument(help="A session; all that run, if none is named.")] = None,
    json: Json = False,
) -> int:
    """List the questions that wait for an answer."""
    from harness.commands import approvals as command

    return command.approvals(session, json=json)


def approve(
    session: Session,
    approval: Approval,
    once: Annotated[bool, typer.Option("--once", help="For this one time.")] = False,
    whole_session: Annotated[bool, typer.Option("--session", help="Until the session ends.")] = False,
    minutes: Annotated[float | None, typer.Option("--minutes", help="For so long.")] = None,
    always: Annotated[bool, typer.Option("--always", help="For good, under this policy.")] = False,
) -> int:
    """Answer a question yes.

    Without an option as narrowly as it can be.
    """
    from harness.commands import approvals as command

    return command.approve(
        session, approval, once=once, session=whole_session, minutes=minutes, always=always
    )


def deny(session: Session, approval: Approval) -> int:
    """Answer a question no."""
    from harness.commands import approvals as command

    return command.deny(session, approval)


def grants(
    session: Annotated[
        str | None, typer.Argument(help="A session, or `always` for what was answered for good.")
    ] = None,
    json: Json = False,
) -> int:
    """List answers that stand."""
    from harness.commands import grants as command

    return command.grants(session, json=json)


def revoke(
    session: Annotated[str, typer.Argument(help="A session, or `always`.")],
    grant: Annotated[str, typer.Argument(help="Its name, as `usermode grants` shows it.")],
) -> int:
    """Take a grant back, and cut what is open by it."""
    from harness.commands import grants as command

    return command.revoke(session, grant)
