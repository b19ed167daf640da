"""What becomes of announced calls, by what can be seen: nothing that is in doubt is done again."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

import pytest

from harness.events import CallIntent, FileAhead
from harness.messages import Call
from harness.recovery.rebuilt import Open
from harness.recovery.reconcile import GONE, UNSEEN, look, reconcile

HIDDEN = "‹redacted:TOKEN›"
FILE = "/workspace/x"


class Box:
    """A sandbox that knows one command and one file; being asked of anything else is an error."""

    async def progress(self, exec_id, tail_bytes):
        if exec_id == "gone":
            raise KeyError(exec_id)
        return SimpleNamespace(running=exec_id == "runs")

    async def read_file(self, path):
        assert path == FILE
        return b"now"


NOW = sha256(b"now").hexdigest()


def opened(name, arguments, exec_id="known", **more):
    call = Call(id="c", name=name, arguments=arguments)
    intent = CallIntent(call=call, exec_id=exec_id, decision="allow") if exec_id is not None else None
    return Open(call, intent, **more)


def ahead(before, after, path=FILE):
    return FileAhead(call_id="c", path=path, before=before, after=after)


def bash(exec_id, **more):
    return opened("bash", {"command": "make"}, exec_id, **more)


def write(**more):
    return opened("write", {"path": "x", "content": ""}, **more)


@pytest.mark.parametrize(
    ("one", "attached", "fate"),
    [
        (bash("known"), True, "adopted"),
        (bash("runs"), True, "reattached"),
        (bash("gone"), True, "not_run"),
        (bash("known"), False, "unknown"),
        (bash("gone", elsewhere=True), True, "unknown"),
        (opened("read", {"path": "x"}), True, "again"),
        (opened("read", {"path": HIDDEN}), True, "not_run"),
        (opened("read", {"path": HIDDEN}, None), True, "not_run"),
        (write(), True, "again"),
        (write(ahead=ahead("", NOW)), True, "adopted"),
        (write(ahead=ahead(NOW, "1")), True, "again"),
        (write(ahead=ahead("", "1")), True, "unknown"),
        (write(ahead=ahead(NOW, "1"), found="1"), True, "adopted"),
        (write(ahead=ahead(NOW, "1", f"/workspace/{HIDDEN}")), True, "unknown"),
        (opened("merge", {"child": "kid"}), True, "again"),
        (opened("merge", {"child": HIDDEN}), True, "unknown"),
        (opened("sudo", {"reason": "r", "network": "h:1"}), True, "unknown"),
    ],
)
async def test_fates(one, attached, fate):
    (found,) = await look([one], Box(), attached=attached)
    assert found.fate == fate


async def test_what_was_never_announced_has_not_happened_and_is_made_later():
    assert await look([bash(None)], Box(), attached=True) == []


@pytest.mark.parametrize(("elsewhere", "told"), [(True, GONE), (False, UNSEEN)])
async def test_the_model_is_told_why_it_cannot_be_known(make_session, elsewhere, told):
    run = make_session([])
    asks = {"reason": "r", "network": "h:1"}
    sudo = opened("sudo", asks, f"{(1 << 32) + 1:016x}", elsewhere=elsewhere)
    found = await look([sudo], Box(), attached=True)
    settled = await reconcile(found, run.session, run.kernel.devices, attached=True)
    assert [(result.error, result.content) for result in settled.values()] == [("unknown", told)]


@pytest.mark.parametrize(("stopped", "told"), [(True, [("unknown", UNSEEN)]), (False, [])])
async def test_a_merge_that_is_not_finished_any_more_is_not_said_to_be_undone(make_session, stopped, told):
    run = make_session([])
    found = await look([opened("merge", {"child": "kid"}, f"{(1 << 32) + 1:016x}")], Box(), attached=True)
    if stopped:
        run.interrupt.cancel_turn()
    settled = await reconcile(found, run.session, run.kernel.devices, attached=True)
    assert [(result.error, result.content) for result in settled.values()] == told
