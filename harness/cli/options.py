"""Options that several commands share, a word and a sentence each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Session = Annotated[str, typer.Argument(help="A session's name, the beginning of one, or `last`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
PolicyName = Annotated[
    str, typer.Option("--policy", "--profile", "-p", help="A profile's name or a policy file.")
]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Directory to work on a copy of; this one if not given."),
]
Paths = Annotated[list[str] | None, typer.Argument(help="Only these paths, and what is below them.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Where the model's service answers.")]
Image = Annotated[str | None, typer.Option("--image", help="Image to run in, instead of the policy's.")]
Runtime = Annotated[str | None, typer.Option("--runtime", help="runc or runsc, instead of the policy's.")]
Everything = Annotated[bool, typer.Option("--all", "-a", help="All, not only the latest.")]


@dataclass(frozen=True)
class Room:
    """What a new session runs in."""

    no_workspace: Annotated[bool, typer.Option("--no-workspace", help="Start with an empty workspace.")] = (
        False
    )
    workspace_mode: Annotated[
        str | None,
        typer.Option(
            "--workspace-mode", help="copy, or overlay: as private, and there at once (root on Linux)."
        ),
    ] = None
    image: Image = None
    runtime: Runtime = None


@dataclass(frozen=True)
class Service:
    """Who is asked."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="provider:model, USERMODE_MODEL if not given; providers: anthropic, openai, openai-chat, "
            "scripted:FILE, replay:SESSION.",
            show_default=False,
        ),
    ] = ""
    base_url: BaseUrl = None


@dataclass(frozen=True)
class Caps:
    """The whole session's limits, instead of the policy's."""

    max_turns: Annotated[int | None, typer.Option("--max-turns", min=1, help="Requests to the model.")] = None
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of the whole session.")] = (
        None
    )
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="US dollars, for the whole session.")
    ] = None
    max_time: Annotated[float | None, typer.Option("--max-time", help="Seconds, for the whole session.")] = (
        None
    )
