"""`merge`: what a child changed, taken over through the sandbox's file contract; nothing is overwritten."""

from __future__ import annotations

import os

import pytest
from kernel_double import calls, policy_with

from harness.process.children import changed
from harness.process.session import Child
from policies.schema import Rule, When
from sandbox import workspace
from sandbox.checkpoints.store import Bounds, Writer
from sandbox.protocol import Command
from tests.sandbox.checkpoints.tree_double import Tree

LIMITS = policy_with().limits.model_copy(update={"workspace_mb": 64, "workspace_inodes": 5000})
BEFORE = {"a.txt": "one\n", "b.txt": "two\n", "gone.txt": "old\n", "run": "#!/bin/sh\n", "deep/c.txt": "c\n"}


class Nest:
    """Where children are, without starting any."""

    def __init__(self, directory):
        self._directory = directory

    def directory(self, child):
        return self._directory


@pytest.fixture
def child(tmp_path):
    """A child whose first checkpoint is BEFORE and whose last is what `change` made of it."""
    project, session = tmp_path / "project", tmp_path / "child"
    session.mkdir()
    for name, text in BEFORE.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    ids = os.geteuid(), os.getegid()
    tree = workspace.prepare(session, LIMITS, uid=ids[0], gid=ids[1], kind="watched directory").path
    workspace.copy_in(project, session, limits=LIMITS, uid=ids[0], gid=ids[1])
    (tree / "was").symlink_to("a.txt")
    with Writer(session, Bounds(64, 10)) as writer:
        writer.take()

    def change(edit):
        edit(tree)
        with Writer(session, Bounds(64, 10)) as writer:
            writer.take()
        return Nest(session)

    yield change
    workspace.discard(session)


def edit(tree):
    (tree / "a.txt").write_text("one, changed\n")
    (tree / "new" / "deeper").mkdir(parents=True)
    (tree / "new" / "deeper" / "n.txt").write_text("new\n")
    (tree / "gone.txt").unlink()
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("a.txt")


async def merged(make_session, nest, *arguments, files=None, links=None, rules=(), mergeable=True):
    files = {
        f"/workspace/{name}": text for name, text in {**BEFORE, **(files or {})}.items() if text is not None
    }
    replies = [calls(*(("merge", {"child": "kid", **one}) for one in arguments or ({},))), "done"]
    run = make_session(replies, files=files, policy=policy_with(*rules))
    for name, target in (links or {}).items():
        done = await run.box.run(Command(argv=("ln", "-s", target, f"/workspace/{name}")))
        assert done.exit_code == 0
    object.__setattr__(run.kernel.devices, "children", nest)
    run.session.children["kid"] = Child("kid", "s", "call_0", mergeable)
    await run.turn()
    return run


async def text(run, name):
    try:
        return (await run.box.read_file(f"/workspace/{name}")).decode()
    except FileNotFoundError:
        return None


async def test_files_are_written_made_deleted_and_made_executable(make_session, child):
    run = await merged(make_session, child(edit))
    (result,) = run.results
    assert result.error is None, result.content
    assert await text(run, "a.txt") == "one, changed\n"
    assert await text(run, "new/deeper/n.txt") == "new\n"
    assert await text(run, "gone.txt") is None
    assert (await run.box.stat("/workspace/run")).mode & 0o777 == 0o755
    assert (await run.box.stat("/workspace/link")).kind == "symlink"
    assert await text(run, "b.txt") == "two\n"


async def test_a_link_in_a_directory_that_is_new_is_made_with_it(make_session, child):
    def linked(tree):
        (tree / "new" / "deeper").mkdir(parents=True)
        (tree / "new" / "deeper" / "link").symlink_to("../../a.txt")

    run = await merged(make_session, child(linked))
    (result,) = run.results
    assert result.error is None, result.content
    found = await run.box.stat("/workspace/new/deeper/link")
    assert (found.kind, found.target) == ("symlink", "../../a.txt")


async def test_what_has_changed_here_is_left_alone_and_named(make_session, child):
    here = {
        "a.txt": "mine\n",
        "gone.txt": "mine, too\n",
        "new/deeper/n.txt": "mine as well\n",
        "link": "mine\n",
    }
    run = await merged(make_session, child(edit), files=here)
    (result,) = run.results
    assert result.error == "conflict"
    for name, mine in here.items():
        assert await text(run, name) == mine
        assert f"  {name}: " in result.content
    assert (await run.box.stat("/workspace/run")).mode & 0o777 == 0o755  # the others are taken


async def test_a_second_time_there_is_nothing_left_to_do(make_session, child):
    nest = child(edit)
    run = await merged(make_session, nest, {"paths": ["a.txt"]}, {"paths": ["a.txt", "./new/"]})
    assert [result.error for result in run.results] == [None, None]
    assert await text(run, "a.txt") == "one, changed\n"
    assert await text(run, "gone.txt") == "old\n"  # not asked for
    run = await merged(make_session, nest, {}, {})
    assert [result.error for result in run.results] == [None, None]
    assert run.results[0].content == run.results[1].content
    again = await merged(make_session, child(lambda tree: None), {"paths": ["deep"]})
    assert "changed nothing there" in again.results[0].content


async def test_a_file_that_is_gone_here_is_not_made_again(make_session, child):
    run = await merged(make_session, child(edit), files={"a.txt": None})
    assert run.results[0].error == "conflict"
    assert await text(run, "a.txt") is None


async def test_the_rules_on_writing_hold_for_what_is_merged(make_session, child):
    rule = Rule(syscall="write", when=When(path="/workspace/a.txt"), action="deny", reason="Hands off.")
    asks = Rule(syscall="write", when=When(path="/workspace/new/**"), action="ask", reason="Ask first.")
    run = await merged(make_session, child(edit), rules=(rule, asks))
    assert await text(run, "a.txt") == "one\n"
    assert await text(run, "new/deeper/n.txt") is None
    assert "Hands off." in run.results[0].content
    assert "Ask first." in run.results[0].content


@pytest.mark.parametrize(("leads", "stays"), [("a.txt", False), ("b.txt", True)])
async def test_a_link_is_deleted_only_where_it_leads_as_it_did(make_session, child, leads, stays):
    nest = child(lambda tree: (tree / "was").unlink())
    run = await merged(make_session, nest, links={"was": leads})
    assert ("/workspace/was" in {item.path for item in await run.box.list_dir("/workspace")}) is stays


async def test_a_link_of_the_child_leads_nowhere_else(make_session, child):
    """A directory that the child exchanged for a link, with files beneath: nothing is written through it."""

    def exchange(tree):
        (tree / "deep" / "c.txt").unlink()
        (tree / "deep").rmdir()
        (tree / "deep").symlink_to("/etc")
        (tree / "out").symlink_to("/etc/passwd")

    run = await merged(make_session, child(exchange))
    assert run.results[0].error == "conflict"
    assert (await run.box.stat("/workspace/deep")).kind == "directory"
    assert "deep" in run.results[0].content


async def test_odd_names_and_large_files_are_left_alone_and_shown_harmlessly(make_session, child):
    def odd(tree):
        (tree / "a\x1b[2Jb").write_text("x")
        open(os.fsencode(tree) + b"/\xff", "wb").close()
        (tree / "large").write_bytes(b"x" * 2000)

    nest = child(odd)
    files = {f"/workspace/{name}": text for name, text in BEFORE.items()}
    run = make_session(
        [calls(("merge", {"child": "kid"})), "done"], files=files, policy=policy_with(file_bytes=1000)
    )
    object.__setattr__(run.kernel.devices, "children", nest)
    run.session.children["kid"] = Child("kid", "s", "call_0", True)
    await run.turn()
    shown = run.results[0].content
    assert "\x1b" not in shown
    assert "not UTF-8" in shown
    assert "limits.file_bytes" in shown
    assert await text(run, "large") is None


def test_what_no_snapshot_can_hold_is_not_told_as_deleted_by_the_child(tmp_path):
    tree = Tree(tmp_path)
    os.mkfifo(tree.path / "queue")
    tree.take()
    (tree.path / "queue").unlink()  # as in a child's workspace, where it was never made
    tree.write("new", "n")
    tree.take()
    what = changed(tmp_path)
    with what.store:
        assert [one.path for one in what.found] == ["new"]
