"""Every command, in the order in which `usermode --help` shows them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import typer
import typer.main
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


class Made(Mapping[str, Any]):
    """Commands by their names, each made when it is asked for: the list of them needs none."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class Sections(TyperGroup):
    """All commands, listed under headings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        single = [command for commands in SECTIONS.values() for command in commands]
        groups = {name: partial(_group, name, *group) for name, group in GROUPS.items()}
        self.commands = Made({**_makers(single), **groups})  # type: ignore[assignment]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = {
            title: [(_name(command), _summary(command)) for command in commands]
            for title, commands in SECTIONS.items()
        }
        listed["Settings"] = [(name, said) for name, (said, _) in GROUPS.items()]
        width = max(len(name) for name in self.commands)
        for title, rows in listed.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), said) for name, said in rows])


def _name(command: Callable[..., int]) -> str:
    """As it is typed: `list_` is no builtin of ours to hide."""
    return command.__name__.rstrip("_")


def _summary(command: Callable[..., int]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def _typer(help: str | None = None, **more: Any) -> typer.Typer:
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **more,
    )


def _makers(commands: Commands) -> dict[str, Callable[[], Any]]:
    return {_name(command): partial(_command, command) for command in commands}


def _command(command: Callable[..., int]) -> Any:
    alone = _typer()
    alone.command(_name(command))(declared(command))
    return typer.main.get_command(alone)


def _group(name: str, said: str, commands: Commands) -> Any:
    group = typer.main.get_group(_typer(said, name=name))
    group.commands = Made(_makers(commands))  # type: ignore[assignment]
    return group


app = _typer(
    "Run an AI agent the way an operating system runs a process: contained, journalled, reviewed.",
    cls=Sections,
    epilog="Exit codes: 0 done, 1 task failed, 2 usage, 3 approval refused, 4 budget spent, 5 provider, "
    "6 sandbox, 7 journal, 70 internal error, 130 interrupted.",
)


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
