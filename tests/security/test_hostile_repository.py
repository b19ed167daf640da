"""A repository made to run programs where git opens it: none of our commands opens it on the host (C09)."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_user import CliUser

pytestmark = pytest.mark.docker

HOSTILE = r"""
git init -q . && git config user.name x && git config user.email x@x
echo one > tracked; git add tracked; git commit -qm one; echo two >> tracked
mkdir -p CANARY/
plant() { printf '#!/bin/sh\ntouch CANARY/%s\ncat\n' "$1" > "$2"; chmod +x "$2"; }
mkdir bin; for name in fsmonitor pager external textconv clean smudge gpg ssh credential alternates pack \
  alias editor askpass; do plant $name bin/$name; done
here=$PWD/bin
for name in pre-commit post-checkout post-index-change reference-transaction post-merge; do
  plant hook-$name .git/hooks/$name; done
cat > .git/included <<END
[core]
    fsmonitor = touch CANARY/fsmonitor; false
    pager = touch CANARY/pager; cat
    sshCommand = touch CANARY/ssh
    editor = touch CANARY/editor
    askPass = $here/askpass
    alternateRefsCommand = touch CANARY/alternates
[diff]
    external = $here/external
[diff "x"]
    textconv = touch CANARY/textconv; cat
[filter "x"]
    clean = touch CANARY/clean; cat
    smudge = touch CANARY/smudge; cat
    required = true
[gpg]
    program = $here/gpg
[credential]
    helper = "!touch CANARY/credential"
[uploadpack]
    packObjectsHook = $here/pack
[alias]
    st = "!touch CANARY/alias"
[commit]
    gpgSign = true
END
git config include.path included
printf '* filter=x diff=x\n' > .gitattributes
git init -q --bare nested; git --git-dir nested config core.fsmonitor 'touch CANARY/nested; false'
mkdir linked; echo "gitdir: $PWD/.git" > linked/.git
printf '[submodule "s"]\n path = s\n url = -u./p\n update = !touch CANARY/submodule\n' > .gitmodules
"""
OPEN = "git status; git add -A; git diff HEAD; git log -p; git --paginate log; git st; true"
FIRES = {"fsmonitor", "clean", "alias", "hook-post-index-change"}


@pytest.fixture
def canaries() -> Iterator[Path]:
    """A directory that has the same name on the host and, once the script made it, inside."""
    path = Path("/tmp") / f"usermode-canary-{secrets.token_hex(8)}"
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_no_command_opens_a_repository_of_the_guests(tmp_path: Path, canaries: Path):  # C09
    user = CliUser(tmp_path)
    script = HOSTILE.replace("CANARY", str(canaries))
    _, opened, _ = user.session(
        {"command": script},
        {"command": f"{OPEN}; echo; echo fired; ls {canaries}"},
        # As it was before git was used on it, with a change that git has yet to look at.
        {"command": "touch tracked; echo changed > plain.txt"},
    )
    # Where git does open it, it fires: inside, where it may.
    assert set(opened.result.content.rpartition("fired")[2].split()) >= FIRES

    def every_command() -> None:
        for argv in (
            *(
                ["ps"],
                ["log"],
                ["log", "--json"],
                ["show", "last", "3"],
                ["verify"],
                ["diff"],
                ["diff", "last", ".git"],
            ),
            *(["diff", "last", "tracked"], ["policy", "show", "strict"], ["gc"], ["doctor"], ["--help"]),
        ):
            user.usermode(*argv)
            assert list(canaries.iterdir()) == [], argv

    every_command()
    assert user.usermode("apply").returncode == 0
    assert (user.project / "plain.txt").exists()
    every_command()
    # Asked for by name, it crosses; that is still no reason to open it, nor is a session that copies it.
    user.usermode(
        "apply", "last", ".git", ".gitattributes", "nested", "linked", ".gitmodules", "--executable"
    )
    user.usermode("apply", "--executable", "--force")
    assert (user.project / ".gitattributes").exists()
    assert "path = included" in (user.project / ".git" / "config").read_text()
    user.session({"command": "echo again >> tracked"})
    every_command()
    user.usermode("apply", "--force")
    assert user.usermode("discard", "last").returncode == 0
    assert list(canaries.iterdir()) == []
