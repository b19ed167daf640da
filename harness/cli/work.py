"""Sessions that this terminal begins or goes on with: `run`, `chat`, `shell`, `resume`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import BaseUrl, Caps, Json, PolicyName, Room, Service, Session, Workspace

if TYPE_CHECKING:
    from harness.commands.place import Place


def run(
    task: Annotated[str, typer.Argument(help="What to do, in words; `-` reads it from standard input.")],
    service: Service,
    room: Room,
    caps: Caps,
    policy: PolicyName = "strict",
    workspace: Workspace = None,
    json: Json = False,
) -> int:
    """Run a task in a contained session.

    What it changes waits for `diff` and `apply`.
    """
    from harness.commands import run as command

    place = _place(policy, workspace, room, caps)
    return command.run(task, service.model, place, base_url=service.base_url, json=json)


def chat(
    service: Service,
    room: Room,
    caps: Caps,
    directory: Annotated[
        Path | None, typer.Argument(help="Directory to work on a copy of; this one if not given.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", "--profile", "-p", help="A profile's name or a policy file; dev if not given."
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on with this session, as it was begun.")
    ] = None,
    json: Json = False,
) -> int:
    """Talk with a contained session, also while it works.

    /help in it lists its commands.
    """
    from harness.commands import chat as command

    if resume is not None:
        new = directory is not None or policy is not None or room != Room() or caps != Caps()
        return command.resume(resume, service.model, new=new, base_url=service.base_url, json=json)
    place = _place(policy or "dev", directory, room, caps)
    return command.chat(place, service.model, base_url=service.base_url, json=json)


def shell(room: Room, policy: PolicyName = "dev", workspace: Workspace = None) -> int:
    """Open a shell in a fresh contained session."""
    from harness.commands import shell as command

    return command.shell(_place(policy, workspace, room))


def resume(
    session: Session = "last",
    message: Annotated[
        str, typer.Argument(help="What to say to the model once what was under way is done.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", help="provider:model, instead of the session's own.")
    ] = "",
    base_url: BaseUrl = None,
    json: Json = False,
) -> int:
    """Go on with a session that was left or killed.

    A session that has ended goes on with a message, a chat as a chat.
    """
    from harness.commands import resume as command

    return command.resume(session, message, model, base_url=base_url, json=json)


def _place(policy: str, workspace: Path | None, room: Room, caps: Caps = Caps()) -> "Place":  # noqa: B008
    from harness.commands.place import Said, place

    said = Said(policy, workspace, room.no_workspace, room.image, room.runtime, room.workspace_mode)
    limits = {"turns": caps.max_turns, "tokens": caps.max_tokens}
    return place(said, **limits, cost_usd=caps.max_cost, session_s=caps.max_time)
