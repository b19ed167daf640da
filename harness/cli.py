"""The command line: names, options and help. What a command does is in `harness.commands`.

Everything heavy is imported when a command runs, so that `usermode --help` and a typing error answer at once.

Exit codes: 0 done, 1 the task failed, 2 usage, 3 a needed approval was refused, 4 budget spent, 5 provider,
6 sandbox, 7 journal, 70 a fault of usermode itself, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.exits import INTERRUPTED, guarded

app = typer.Typer(
    name="usermode",
    help="Run an AI agent the way an operating system runs a process: contained, journalled, reviewed.",
    epilog="Exit codes: 0 done, 1 task failed, 2 usage, 3 approval refused, 4 budget spent, 5 provider, "
    "6 sandbox, 7 journal, 70 internal error, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
image_app = typer.Typer(help="Images a session can run in.", no_args_is_help=True, rich_markup_mode=None)
policy_app = typer.Typer(help="What a session may do.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(image_app, name="image")
app.add_typer(policy_app, name="policy")

Session = Annotated[str, typer.Argument(help="A session's name, the beginning of one, or `last`.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="USERMODE_MODEL",
        help="provider:model; providers: anthropic, openai, openai-chat, scripted:FILE, replay:SESSION.",
    ),
]
PolicyName = Annotated[
    str, typer.Option("--policy", "--profile", "-p", help="A profile's name or a policy file.")
]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Directory to work on a copy of; this one if not given."),
]
WorkspaceMode = Annotated[
    str | None,
    typer.Option("--workspace-mode", help="copy, or overlay: as private, and there at once (root on Linux)."),
]
NoWorkspace = Annotated[bool, typer.Option("--no-workspace", help="Start with an empty workspace.")]
Image = Annotated[str | None, typer.Option("--image", help="Image to run in, instead of the policy's.")]
Runtime = Annotated[str | None, typer.Option("--runtime", help="runc or runsc, instead of the policy's.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Paths = Annotated[list[str] | None, typer.Argument(help="Only these paths, and what is below them.")]


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


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="What to do, in words; `-` reads it from standard input.")],
    model: Model = "",
    policy: PolicyName = "strict",
    workspace: Workspace = None,
    no_workspace: NoWorkspace = False,
    workspace_mode: WorkspaceMode = None,
    image: Image = None,
    runtime: Runtime = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where the model's service answers.")
    ] = None,
    json: Json = False,
    max_turns: Annotated[
        int | None, typer.Option("--max-turns", min=1, help="Requests to the model.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Of the whole session.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="US dollars, for the whole session.")
    ] = None,
    max_time: Annotated[
        float | None, typer.Option("--max-time", help="Seconds, for the whole session.")
    ] = None,
) -> None:
    """Run a task in a contained session; what it changes waits for `diff` and `apply`."""
    with guarded() as leave:
        from harness.commands import run as command
        from harness.commands.place import Said, place

        said = Said(policy, workspace, no_workspace, image, runtime, workspace_mode)
        where = place(said, turns=max_turns, tokens=max_tokens, cost_usd=max_cost, session_s=max_time)
        leave(command.run(task, model, where, base_url=base_url, json=json))


@app.command()
def shell(
    policy: PolicyName = "dev",
    workspace: Workspace = None,
    no_workspace: NoWorkspace = False,
    workspace_mode: WorkspaceMode = None,
    image: Image = None,
    runtime: Runtime = None,
) -> None:
    """Open an interactive shell in a fresh contained session."""
    with guarded() as leave:
        from harness.commands import shell as command
        from harness.commands.place import Said, place

        leave(command.shell(place(Said(policy, workspace, no_workspace, image, runtime, workspace_mode))))


@app.command()
def chat(
    directory: Annotated[
        Path | None, typer.Argument(help="Directory to work on a copy of; this one if not given.")
    ] = None,
    model: Model = "",
    policy: PolicyName = "dev",
    no_workspace: NoWorkspace = False,
    workspace_mode: WorkspaceMode = None,
    image: Image = None,
    runtime: Runtime = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where the model's service answers.")
    ] = None,
    json: Json = False,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on with this session, as it was begun.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="US dollars, for the whole session.")
    ] = None,
) -> None:
    """Talk with a contained session, also while it works; /help in it lists commands."""
    with guarded() as leave:
        from harness.commands import chat as command
        from harness.commands.place import Said, place

        if resume is not None:
            said = (directory, workspace_mode, image, runtime, max_cost)
            leave(command.resume(resume, said, model, base_url=base_url, json=json))
        where = place(
            Said(policy, directory, no_workspace, image, runtime, workspace_mode), cost_usd=max_cost
        )
        leave(command.chat(where, model, base_url=base_url, json=json))


@app.command()
def say(
    session: Session,
    text: Annotated[str, typer.Argument(help="What to say, in words; `-` reads it from standard input.")],
    following: Annotated[
        bool, typer.Option("--next", help="As the beginning of a turn of its own, after this one.")
    ] = False,
) -> None:
    """Say something to a running session; without --next the model reads it before its next step."""
    with guarded() as leave:
        from harness.commands import inbox as command

        leave(command.say_to(session, text, following=following))


@app.command()
def queue(
    session: Session = "last",
    drop: Annotated[str | None, typer.Option("--drop", help="Take this prompt back, e.g. q1.")] = None,
    json: Json = False,
) -> None:
    """List what was said to a session and the model has not read, or take it back."""
    with guarded() as leave:
        from harness.commands import inbox as command

        leave(command.queue(session, drop, json=json))


@app.command()
def cancel(
    session: Session,
    call: Annotated[
        str | None, typer.Argument(help="A call's id, as `usermode log` shows it; the turn if not given.")
    ] = None,
) -> None:
    """Stop one call of a running session, or its turn; what it did so far is kept."""
    with guarded() as leave:
        from harness.commands import inbox as command

        leave(command.cancel(session, call))


@app.command()
def resume(
    session: Session = "last",
    message: Annotated[
        str, typer.Argument(help="What to say to the model once what was under way is done.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", help="provider:model, instead of the session's own.")
    ] = "",
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where the model's service answers.")
    ] = None,
    json: Json = False,
) -> None:
    """Go on with a session that was left or killed, or say more to one that has ended."""
    with guarded() as leave:
        from harness.commands import resume as command

        leave(command.resume(session, message, model, base_url=base_url, json=json))


@app.command()
def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All, not only the latest twenty.")] = False,
    json: Json = False,
) -> None:
    """List sessions, the newest first."""
    with guarded() as leave:
        from harness.commands import sessions as command

        leave(command.ps(everything=everything, json=json))


@app.command()
def log(session: Session = "last", json: Json = False) -> None:
    """Show what happened in a session, a line an entry."""
    with guarded() as leave:
        from harness.commands import sessions as command

        leave(command.log(session, json=json))


@app.command()
def mem(
    session: Session = "last",
    everything: Annotated[bool, typer.Option("--all", "-a", help="All pages, not only the latest.")] = False,
    json: Json = False,
) -> None:
    """Show what a session's context is made of, what is kept outside it, and what was paid."""
    with guarded() as leave:
        from harness.commands import mem as command

        leave(command.mem(session, everything=everything, json=json))


@app.command()
def show(
    session: Session, entry: Annotated[str, typer.Argument(help="An entry's number, or a call's id.")]
) -> None:
    """Show one entry of a session's journal whole."""
    with guarded() as leave:
        from harness.commands import sessions as command

        leave(command.show(session, entry))


@app.command()
def verify(
    session: Session = "last",
    head: Annotated[
        str | None, typer.Option("--head", help="The last hash you know; finds a cut-off end.")
    ] = None,
) -> None:
    """Check that a session's journal is whole and unaltered."""
    with guarded() as leave:
        from harness.commands import sessions as command

        leave(command.verify(session, head))


@app.command()
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
) -> None:
    """Show what a session changed in its copy of the workspace."""
    with guarded() as leave:
        if since is not None or until is not None:
            from harness.commands import between

            leave(between.between(session, since or 0, until, paths or [], stat=stat, json=json))
        from harness.commands import changes as command

        leave(command.diff(session, paths or None, stat=stat, json=json))


@app.command()
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
) -> None:
    """Write a session's changes, or some of them, into your directory."""
    with guarded() as leave:
        from harness.commands import changes as command

        options = command.ApplyOptions(force, executable, interactive, dry_run)
        leave(command.apply(session, paths or None, options))


@app.command()
def discard(session: Session) -> None:
    """Drop a session's changes. Its journal stays."""
    with guarded() as leave:
        from harness.commands import changes as command

        leave(command.discard(session))


@app.command()
def rewind(
    session: Session, to: Annotated[int, typer.Option("--to", min=0, help="A checkpoint's number.")]
) -> None:
    """Take an ended session back to a checkpoint: its files, and what was said since."""
    with guarded() as leave:
        from harness.commands.rewind import rewind as command

        leave(command(session, to))


@app.command()
def fork(
    session: Session,
    at: Annotated[
        int | None, typer.Option("--at", min=0, help="A checkpoint's number; the latest if not given.")
    ] = None,
) -> None:
    """Make another session of one as it was at a checkpoint: its files, and what was said until then."""
    with guarded() as leave:
        from harness.commands.fork import fork as command

        leave(command(session, at))


@app.command()
def kill(session: Session) -> None:
    """End a running session and its container; its changes stay."""
    with guarded() as leave:
        from harness.commands.kill import kill as command

        leave(command(session))


@app.command()
def approvals(
    session: Annotated[str | None, typer.Argument(help="A session; all that run, if none is named.")] = None,
    json: Json = False,
) -> None:
    """List the questions that running sessions wait for an answer to."""
    with guarded() as leave:
        from harness.commands import approvals as command

        leave(command.approvals(session, json=json))


@app.command()
def approve(
    session: Session,
    approval: Annotated[str, typer.Argument(help="Its name in the session, e.g. a1.")],
    once: Annotated[bool, typer.Option("--once", help="For this one time.")] = False,
    whole_session: Annotated[bool, typer.Option("--session", help="Until the session ends.")] = False,
    minutes: Annotated[float | None, typer.Option("--minutes", help="For so long.")] = None,
    always: Annotated[bool, typer.Option("--always", help="For good, under this policy.")] = False,
) -> None:
    """Answer a question yes; without an option as narrowly as it can be."""
    with guarded() as leave:
        from harness.commands import approvals as command

        leave(
            command.approve(
                session, approval, once=once, session=whole_session, minutes=minutes, always=always
            )
        )


@app.command()
def deny(
    session: Session,
    approval: Annotated[str, typer.Argument(help="Its name in the session, e.g. a1.")],
) -> None:
    """Answer a question no."""
    with guarded() as leave:
        from harness.commands import approvals as command

        leave(command.deny(session, approval))


@app.command()
def grants(
    session: Annotated[
        str | None, typer.Argument(help="A session, or `always` for what was answered for good.")
    ] = None,
    json: Json = False,
) -> None:
    """List answers that stand."""
    with guarded() as leave:
        from harness.commands import grants as command

        leave(command.grants(session, json=json))


@app.command()
def revoke(
    session: Annotated[str, typer.Argument(help="A session, or `always`.")],
    grant: Annotated[str, typer.Argument(help="Its name, as `usermode grants` shows it.")],
) -> None:
    """Take a grant back; connections that were open by it are cut."""
    with guarded() as leave:
        from harness.commands import grants as command

        leave(command.revoke(session, grant))


@app.command()
def port(
    session: Session,
    ports: Annotated[str, typer.Argument(metavar="PORT[:LOCAL]", help="A port inside, and one here.")],
) -> None:
    """Reach a port of a running session from this machine, until Ctrl-C."""
    with guarded() as leave:
        from harness.commands.port import port as command

        leave(command(session, ports))


@app.command()
def gc() -> None:
    """Remove containers and files that no session needs any more."""
    with guarded() as leave:
        from harness.commands.gc import gc as command

        leave(command())


@app.command()
def doctor(json: Json = False) -> None:
    """Examine the engine and this machine, and say what each finding means."""
    with guarded() as leave:
        from harness.commands.doctor import doctor as command

        leave(command(json=json))


@app.command()
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
) -> None:
    """Try known ways out of a session for real, and say which of them held."""
    with guarded() as leave:
        from harness.commands import attack as command

        aim = command.Aim(policy, image, runtime, baseline, tuple(only or ()))
        leave(command.run(aim, json=json))


@image_app.command("build")
def image_build(
    names: Annotated[list[str] | None, typer.Argument(help="base, dev; both if none is named.")] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="Extra certificate authorities, a PEM file.")
    ] = None,
) -> None:
    """Build usermode's own images; a second time there is nothing to do."""
    with guarded() as leave:
        from harness.commands import images as command

        leave(command.build(names or None, ca))


@image_app.command("list")
def image_list() -> None:
    """List usermode's own images on the engine."""
    with guarded() as leave:
        from harness.commands import images as command

        leave(command.show())


@policy_app.command("list")
def policy_list() -> None:
    """List the built-in profiles."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.list_profiles())


@policy_app.command("show")
def policy_show(
    name: Annotated[str, typer.Argument(help="A profile's name or a policy file.")] = "strict",
) -> None:
    """Show a policy whole: every limit, every rule and its reason."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.show(name))


@policy_app.command("check")
def policy_check(file: Annotated[Path, typer.Argument(help="A policy file.")]) -> None:
    """Find every mistake of a policy file, with its line."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.check(file))


@policy_app.command("explain")
def policy_explain(
    call: Annotated[
        list[str] | None, typer.Argument(help="A syscall and its command line or path: -- bash 'git push'")
    ] = None,
    policy: PolicyName = "strict",
    path: Annotated[str | None, typer.Option("--path", help="Reading and writing this path.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Connecting there: HOST or HOST:PORT.")] = None,
) -> None:
    """Say what a policy makes of a call, rule by rule, and which rule decides."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.why(policy, call or [], path, host))


@policy_app.command("test")
def policy_test(file: Annotated[Path, typer.Argument(help="A policy file.")]) -> None:
    """Run the examples of a file's rules; exit 1 if one does not come out as written."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.test(file))


@policy_app.command("lint")
def policy_lint(
    name: Annotated[str, typer.Argument(help="A profile's name or a policy file.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when there are warnings.")] = False,
) -> None:
    """Point at settings that give away more than they seem to, or do nothing."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.lint(name, strict=strict))


@policy_app.command("replay")
def policy_replay(session: Session, policy: PolicyName = "strict", json: Json = False) -> None:
    """Decide a recorded session again; exit 1 if anything would be decided otherwise."""
    with guarded() as leave:
        from harness.commands import policy as command

        leave(command.replay(session, policy, json=json))


@policy_app.command("trust")
def policy_trust(
    directory: Annotated[Path, typer.Argument(help="A directory with a .usermode.toml.")] = Path(),
    policy: PolicyName = "strict",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a project's own policy file loosen, as long as it stays as it is now."""
    with guarded() as leave:
        from harness.commands import trust as command

        leave(command.trust(directory, policy, yes=yes))


@policy_app.command("distrust")
def policy_distrust(
    directory: Annotated[Path, typer.Argument(help="A directory that was trusted.")] = Path(),
) -> None:
    """Take that back."""
    with guarded() as leave:
        from harness.commands import trust as command

        leave(command.distrust(directory))


def main() -> None:
    """The `usermode` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
