"""The whole path without root: the copy is the user's own, and the limit is watched instead of exact."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
NOBODY = 65534
SCRIPT = r"""
import os, stat, sys
from pathlib import Path
from policies.schema import Limits
from sandbox.workspace import quota
from sandbox.errors import SandboxRefused
from sandbox.workspace import apply, changes, copy_in, diff_text, discard, opened, prepare, storage_of

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
uid, gid = os.geteuid(), os.getegid()
top = Path(sys.argv[1])
source, session = top / "project", top / "session"
source.mkdir(); session.mkdir(mode=0o700)
(source / "README").write_text("read me\n")
(source / "readonly").write_text("x"); (source / "readonly").chmod(0o444)
(source / "closed").write_text("x"); (source / "closed").chmod(0)
(source / "shut").mkdir(); (source / "shut" / "in").write_text("x"); (source / "shut").chmod(0)

assert quota.exact_unavailable() == "mounting a file-system image needs root"
try:
    prepare(session, Limits(), uid=uid, gid=gid, kind="quota image")
except SandboxRefused as refused:
    assert "needs root" in str(refused)
else:
    raise AssertionError("an exact limit was promised")
storage = prepare(session, Limits(), uid=uid, gid=gid)
assert storage.kind == "watched directory" and not storage.exact
try:
    copy_in(source, session, limits=Limits(), uid=uid + 1, gid=gid)
except ValueError:
    pass
else:
    raise AssertionError("copied for somebody else")
report = copy_in(source, session, limits=Limits(), uid=uid, gid=gid)
assert {path for path, _ in report.excluded} == {"closed", "shut"}, report
copy = storage.path
(copy / "README").write_text("changed\n")
(copy / "readonly").write_text("y")
(copy / "secretive").write_text("z"); (copy / "secretive").chmod(0)
(copy / "dark").mkdir(); (copy / "dark" / "f").write_text("z"); (copy / "dark").chmod(0)
review = changes(session)
assert {c.path for c in review.ordinary} == {"README", "readonly"}, review
assert {c.path for c in review.blocked} == {"secretive", "dark"}, review
assert "+changed" in list(diff_text(session))
assert apply(session).applied == ("README", "readonly")
assert (source / "README").read_text() == "changed\n"
assert stat.S_IMODE((source / "readonly").stat().st_mode) == 0o444
assert (source / "readonly").stat().st_uid == uid
discard(session)
assert [p.name for p in session.iterdir()] == ["workspace.lock"]
(source / "shut").chmod(0o700)
print("ok")
"""


def says_ok(script: str) -> None:
    """Run it with a directory of its own, that of nobody's where we are root."""
    # Not in pytest's own directory, which is closed to other users.
    top = Path(tempfile.mkdtemp(prefix="usermode-test-"))
    try:
        if os.geteuid() == 0:
            os.chown(top, NOBODY, NOBODY)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", script, str(top)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.stdout == "ok\n", done.stderr
    finally:
        shutil.rmtree(top)


def test_copy_review_apply_and_discard_without_root() -> None:
    says_ok(SCRIPT)


def test_a_directory_closed_meanwhile_does_not_look_deleted() -> None:
    """Seen by a user that may not look inside, its files are unknown, and unknown is not gone."""
    script = SCRIPT[: SCRIPT.index("source.mkdir()")] + (
        "(source / 'd').mkdir(parents=True); session.mkdir(mode=0o700)\n"
        "(source / 'd' / 'f').write_text('kept')\n"
        "storage = prepare(session, Limits(), uid=uid, gid=gid)\n"
        "copy_in(source, session, limits=Limits(), uid=uid, gid=gid)\n"
        "(storage.path / 'd').chmod(0)\n"
        "assert {c.path for c in changes(session).blocked} == {'d', 'd/f'}\n"
        "assert apply(session, force=True, executable=True).applied == ()\n"
        "assert (source / 'd' / 'f').read_text() == 'kept'\n"
        "discard(session); print('ok')\n"
    )
    says_ok(script)


def test_an_overlay_without_root_is_refused_and_no_copy_takes_its_place() -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from policies import load\n"
        "from sandbox.errors import SandboxRefused\n"
        "from sandbox.workspace.modes import provide\n"
        "policy = load('strict')\n"
        "rules = policy.workspace.model_copy(update={'mode': 'overlay'})\n"
        "policy = policy.model_copy(update={'workspace': rules})\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "top, uid, gid = Path(sys.argv[1]), os.geteuid(), os.getegid()\n"
        "(top / 'source').mkdir(); (top / 'session').mkdir(mode=0o700)\n"
        "try:\n"
        "    provide(policy, top / 'source', top / 'session', uid, gid, [])\n"
        "except SandboxRefused as refused:\n"
        "    assert 'needs root' in str(refused), refused\n"
        "    print('ok')\n"
    )
    says_ok(script)
