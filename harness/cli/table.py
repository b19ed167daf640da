"""Every command, in the order in which `usermode --help` shows them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli import answers, changes, journal, live, machine, policy, work
from harness.cli.declare import declared
from harness.exits import INTERRUPTED

Commands = Sequence[Callable[..., int]]

SECTIONS: Mapping[str, Commands] = {
    "Begin, and go on": (work.run, work.chat, work.shell, work.resume),
    "While it runs": (live.say, live.queue, live.cancel, live.kill, live.port),
    "What it asks": (answers.approvals, answers.approve, answers.deny, answers.grants, answers.revoke),
    "What happened": (journal.ps, journal.log, journal.show, journal.mem, journal.verify),
    "What it changed": (changes.diff, changes.apply, changes.discard, changes.rewind, changes.fork),
    "This machine": (machine.doctor, machine.attack, machine.gc),
}
GROUPS: Mapping[str, tuple[str, Commands]] = {
    "image": ("Images a session can run in.", (machine.build, machine.list_)),
    "policy": (
        "What a session may do.",
        (
            policy.list_, policy.show, policy.check, policy.explain, policy.test, policy.lint, policy.replay,
            policy.trust, policy.distrust,
        ),
    ),
}  # fmt: skip
"""A first word, its help, and the second words."""


class Sections(TyperGroup):
    """The list of commands under headings, the groups last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = {title: [_name(command) for command in commands] for title, commands in SECTIONS.items()}
        names["Settings"] = list(GROUPS)
        width = max(len(name) for name in self.commands)
        for title, listed in names.items():
            room = formatter.width - width - 4
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(room)) for name in listed]
                )


def _name(command: Callable[..., int]) -> str:
    """As it is typed: `list_` is no builtin of ours to hide."""
    return command.__name__.rstrip("_")


def _made(help: str, commands: Commands, cls: type[TyperGroup] = TyperGroup, epilog: str = "") -> typer.Typer:
    made = typer.Typer(
        cls=cls,
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in commands:
        made.command(_name(command))(declared(command))
    return made


app = _made(
    "Run an AI agent the way an operating system runs a process: contained, journalled, reviewed.",
    [command for commands in SECTIONS.values() for command in commands],
    Sections,
    "Exit codes: 0 done, 1 task failed, 2 usage, 3 approval refused, 4 budget spent, 5 provider, 6 sandbox, "
    "7 journal, 70 internal error, 130 interrupted.",
)
for group, (said, commands) in GROUPS.items():
    app.add_typer(_made(said, commands), name=group)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usermode {__version__}")
        raise typer.Exit


@app.callback()
def usermode(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """The `usermode` command."""
    try:
        app(prog_name="usermode")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
