"""`usermode diff`, `apply`, `discard`: what a session changed, reviewed and then accepted or dropped.

What would run on this machine later stands in a section of its own, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.commands.changelist import name, row, say_json, say_stat
from harness.commands.folding import Fold, folded
from harness.commands.pick import pick
from harness.commands.say import say, table
from harness.errors import JournalError, UsageError
from harness.journal.lock import exclusive
from harness.left import note
from harness.store import Store, home
from harness.words import amount
from sandbox.checkpoints.planting import plant
from sandbox.workspace import discard as discard_changes
from sandbox.workspace import manifest
from sandbox.workspace.accept import ApplyReport
from sandbox.workspace.accept import apply as apply_changes
from sandbox.workspace.compare import Change, Review
from sandbox.workspace.compare import changes as changes_of
from sandbox.workspace.difftext import diff_text, selected
from sandbox.workspace.quota import bound_to, damaged, promised

LISTED = 200
"""Changes named in a section; the rest is counted."""


def diff(reference: str, paths: list[str] | None, *, stat: bool = False, json: bool = False) -> int:
    directory = _planted(reference)
    whole = _review(directory)
    review = Review(whole.source, tuple(selected(whole, paths)))
    if json:
        say_json(directory, review)
        return 0
    if review.changes and stat:
        say_stat(directory, review)
        return 0
    if not review.changes:
        say("nothing changed" if not paths else f"nothing changed in {', '.join(paths)}")
        return 0
    _section(directory, "changed", review, review.ordinary)
    # Whoever names a path wants to see what is in it.
    folds, single = ([], review.executes) if paths else folded(review.executes)
    _section(
        directory,
        "RUNS ON THIS MACHINE LATER (applied only when named, or with --executable)",
        review,
        single,
        folds,
    )
    _section(directory, "inside .git (applied only when named)", review, review.git, text=False)
    _section(directory, "never applied", review, review.blocked, text=False)
    return 0


def _section(
    directory: Path,
    title: str,
    review: Review,
    changes: Sequence[Change],
    folds: Sequence[Fold] = (),
    *,
    text: bool = True,
) -> None:
    total = len(changes) + sum(len(fold.changes) for fold in folds)
    if not total:
        return
    say(f"== {title}: {total}")
    table([*map(_fold_row, folds), *map(row, changes[:LISTED])], indent="   ")
    if len(changes) > LISTED:
        say(f"   … and {len(changes) - LISTED} more")
    if folds:
        # No name of the guest's stands in what a person may paste.
        say(f"   usermode diff {directory.name} DIRECTORY shows these one by one, with their text")
    files = tuple(change for change in changes if change.node != "directory")
    if text and files:
        for line in diff_text(directory, review=Review(review.source, files)):
            say(line)


@dataclass(frozen=True)
class ApplyOptions:
    force: bool = False
    executable: bool = False
    interactive: bool = False
    dry_run: bool = False


def apply(reference: str, paths: list[str] | None, options: ApplyOptions) -> int:
    directory = _planted(reference)
    if options.interactive:
        return _apply_picked(directory, paths, options)
    with _ended(directory):
        review = _review(directory)
        report = apply_changes(
            directory, paths, force=options.force, executable=options.executable, dry_run=options.dry_run
        )
        _note_left(directory, report, options)
    _report(report, review, options)
    # What stands apart by default was not asked for; a conflict, or a path that was named, was.
    apart = {change.path for change in review.changes if change.section != "ordinary"}
    return 1 if any(paths or path not in apart for path, _ in report.skipped) else 0


def _apply_picked(directory: Path, paths: list[str] | None, options: ApplyOptions) -> int:
    review = _review(directory)
    picked = pick(directory, review, selected(review, paths))
    if not picked.paths:
        say("nothing was chosen; nothing is applied")
        return 0
    with _ended(directory):
        # Exactly what was shown and answered for: a conflict was shown as one, and anything that changed
        # since is left.
        report = apply_changes(
            directory, picked.paths, force=True, exactly=True, reviewed=review, dry_run=options.dry_run
        )
        _note_left(directory, report, options)
    _report(report, review, options)
    return 1 if report.skipped else 0


def _note_left(directory: Path, report: ApplyReport, options: ApplyOptions) -> None:
    if report.applied and not options.dry_run:
        # What was applied is applied, whether or not it can be counted.
        with suppress(OSError):
            note(directory, len(changes_of(directory).changes))


def _report(report: ApplyReport, review: Review, options: ApplyOptions) -> None:
    done = "would apply" if options.dry_run else "applied "
    for path in report.applied:
        say(f"{done} {name(path)}")
    for path, reason in report.skipped:
        say(f"left     {name(path)}: {reason}")
    if not report.applied and not report.skipped:
        say("nothing to apply")
    elif options.dry_run:
        say(f"nothing written; {len(report.applied)} would go to {review.source}, {len(report.skipped)} not")
    else:
        say(f"{len(report.applied)} applied to {review.source}, {len(report.skipped)} left")


def discard(reference: str) -> int:
    directory = Store(home()).session(reference)
    _refuse_bound(directory)
    with _ended(directory):
        dropped = discard_changes(directory)
    if dropped:
        say(f"{directory.name}: changes dropped; its journal stays")
    else:
        say(f"{directory.name}: nothing to drop; it had no workspace, or its changes were dropped already")
    return 0


def _planted(reference: str) -> Path:
    """The directory of a session; the workspace of a fork in which nothing ran yet is made now."""
    directory = Store(home()).session(reference)
    if promised(directory):
        with _ended(directory):
            plant(directory)
    return directory


def _refuse_bound(directory: Path) -> None:
    if (own := bound_to(directory)) is not None:
        raise UsageError(
            f"session {directory.name} worked on {own} itself (workspace mode bind): "
            "its changes were made directly and there is nothing to review, apply or discard"
        )


def _review(directory: Path) -> Review:
    _refuse_bound(directory)
    if damaged(directory):
        say(f"warning: {manifest.maybe_lost(directory)}", error=True)
    try:
        return changes_of(directory)
    except FileNotFoundError as exc:
        missing = Path(exc.filename or directory)
        if directory in (missing, *missing.parents) and manifest.exists(directory):
            raise UsageError(manifest.why_gone(directory)) from exc
        if directory in (missing, *missing.parents):
            raise UsageError(
                f"session {directory.name} has no changes to show: it had no workspace, or they were dropped"
            ) from exc
        raise UsageError(
            f"the changes of session {directory.name} cannot be compared: {missing} is no longer there"
        ) from exc


@contextmanager
def _ended(directory: Path) -> Iterator[None]:
    """Hold the session's lock: neither its own process nor another apply may be at work."""
    try:
        with exclusive(directory):
            yield
    except JournalError as exc:
        if exc.code != "locked":
            raise
        raise UsageError(f"{exc}; `usermode kill {directory.name}` ends it") from exc


def _fold_row(fold: Fold) -> Sequence[str]:
    kinds = {change.kind for change in fold.changes}
    conflicts = sum(change.conflict is not None for change in fold.changes)
    why = f"{len(fold.changes):,} files: {fold.reason}" + (f"; CONFLICTS: {conflicts:,}" if conflicts else "")
    size = amount(sum(change.size for change in fold.changes), "B")
    return kinds.pop() if len(kinds) == 1 else "several", f"{name(fold.directory)}/", size, why
