"""A repository made to run programs where git opens it: none of our commands opens it on the host (C09)."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_user import CliUser
from typer.main import get_command

from harness.cli import app
from sandbox.workspace.quota import exact_unavailable

pytestmark = pytest.mark.docker

HOSTILE = r"""
git init -q . && git config user.name x && git config user.email x@x
echo one > tracked; git add tracked; git commit -qm one; echo two >> tracked
mkdir -p CANARY/
plant() { printf '#!/bin/sh\ntouch CANARY/%s\ncat\n' "$1" > "$2"; chmod +x "$2"; }
mkdir bin; for name in fsmonitor pager external textconv clean smudge gpg ssh credential alternates pack \
  alias editor askpass process proxy difftool merge; do plant $name bin/$name; done
here=$PWD/bin
mkdir custom
for name in pre-commit post-checkout post-index-change reference-transaction post-merge pre-push \
  post-rewrite pre-auto-gc fsmonitor-watchman; do
  plant hook-$name .git/hooks/$name; plant hookspath-$name custom/$name; done
cat > .git/included <<END
[core]
    fsmonitor = touch CANARY/fsmonitor; false
    pager = touch CANARY/pager; cat
    sshCommand = touch CANARY/ssh
    editor = touch CANARY/editor
    askPass = $here/askpass
    alternateRefsCommand = touch CANARY/alternates
    hooksPath = $here/../custom
    gitProxy = $here/proxy
    attributesFile = $here/../.gitattributes
[protocol "ext"]
    allow = always
[remote "evil"]
    uploadpack = git-upload-pack
    url = "ext::sh -c touch% CANARY/ext"
    fetch = +refs/*:refs/*
[remote "near"]
    url = .
    uploadpack = touch CANARY/uploadpack; false
[url "ext::sh -c touch% CANARY/insteadof% "]
    insteadOf = rewritten:
[sequence]
    editor = touch CANARY/sequence
[merge "x"]
    driver = $here/merge
[difftool "x"]
    cmd = $here/difftool
[diff]
    external = $here/external
[diff "x"]
    textconv = touch CANARY/textconv; cat
[filter "x"]
    clean = touch CANARY/clean; cat
    smudge = touch CANARY/smudge; cat
    required = true
[filter "p"]
    process = $here/process
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
git config includeIf.gitdir:/.path included
printf '* filter=x diff=x merge=x\n*.p filter=p\n' > .gitattributes; echo p > a.p
git init -q --bare nested; git --git-dir nested config core.fsmonitor 'touch CANARY/nested; false'
mkdir linked; echo "gitdir: $PWD/.git" > linked/.git
git init -q bare2 --bare; plant nested-hook bare2/hooks/post-index-change
mkdir wt; echo "gitdir: $PWD/bare2" > wt/.git
printf '[submodule "s"]\n path = s\n url = -u./p\n update = !touch CANARY/submodule\n' > .gitmodules
"""
LATER = r"""
mkdir -p .GIT/hooks '.git /hooks' 'git~1'; cp .git/config .GIT/config; cp .git/config 'git~1/config'
cp .git/config '.git /config'
cp .git/hooks/pre-commit .GIT/hooks/pre-commit; echo "$PWD/nested/objects" > .git/objects/info/alternates
empty=$(git mktree < /dev/null); mkdir -p .git/refs/replace; git rev-parse HEAD > ".git/refs/replace/$empty"
git rev-parse HEAD > '.git/refs/heads/--upload-pack=touch'
touch tracked; echo changed > plain.txt
"""
"""What would keep git itself from opening it, and a change that git has yet to look at."""
# Each of these opens the repository in a way that the vectors above wait for.
OPEN = """
git status; git add -A -- . ":!wt"; git diff HEAD; git log -p; git --paginate log; git st
git commit --no-gpg-sign -m two; git commit --allow-empty -m three; git commit --allow-empty --no-gpg-sign
git checkout -f -b other; git fetch evil; git -c remote.near.url=. fetch near; git ls-remote rewritten:x
printf 'protocol=https\nhost=x.test\n\n' | git credential fill
git -c core.hooksPath=.git/hooks commit --no-gpg-sign --allow-empty -m four; git -C wt status
"""
FIRES = {
    "alias", "clean", "credential", "ext", "fsmonitor", "gpg", "hook-pre-commit", "hookspath-post-checkout",
    "hookspath-post-index-change", "hookspath-pre-commit", "hookspath-reference-transaction", "insteadof",
    "process", "smudge", "textconv", "uploadpack",
}  # fmt: skip
"""At least these do, inside, where they may."""
ARGV: dict[str, list[list[str]]] = {
    "ps": [["--all"], ["--json"]],
    "log": [[], ["--json"]],
    "show": [["last", "3"]],
    "verify": [[]],
    "diff": [[], ["--stat"], ["--json"], ["last", ".git"], ["last", "tracked"]],
    "apply": [["last", "--dry-run", "--force", "--executable", "."]],
    "discard": [["nosuch"]],
    "kill": [["nosuch"]],
    "run": [["x", "--model", "scripted:/nonexistent"]],
    "shell": [[]],
    "approvals": [[]],
    "approve": [["last", "1"]],
    "deny": [["last", "1"]],
    "grants": [[]],
    "revoke": [["last", "1"]],
    "port": [["last", "3000"]],
    "gc": [[]],
    "doctor": [[]],
    "attack": [["--help"]],  # opens sessions of its own, and no repository
    "image build": [["--help"]],  # a build may take minutes
    "image list": [[]],
    "policy list": [[]],
    "policy show": [["strict"]],
    "policy check": [["tracked"]],
    "policy explain": [["--", "bash", "git status"]],
    "policy test": [["tracked"]],
    "policy lint": [["strict"]],
    "policy replay": [["last"]],
    "policy trust": [["--yes"]],
    "policy distrust": [[]],
    "mem": [[], ["--json"]],
    "resume": [["last"]],
    "chat": [["--model", "scripted:/nonexistent"]],
    "say": [["last", "x"]],
    "queue": [[], ["--drop", "q1"]],
    "cancel": [["last"]],
    "rewind": [["last", "--to", "3"]],
    "fork": [["last"]],
}
"""How every command is called, in the directory of the repository."""


@pytest.fixture
def canaries() -> Iterator[Path]:
    """A directory that has the same name on the host and, once the script made it, inside."""
    path = Path("/tmp") / f"usermode-canary-{secrets.token_hex(8)}"
    path.mkdir()
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def registered() -> set[str]:
    names = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names |= {f"{name} {sub}" for sub in below} if below else {name}
    return names


def in_process(user: CliUser, *argv: str) -> int:
    """As `user.usermode`, without the price of an interpreter for each of a hundred commands."""
    done = user.looks(*argv)
    assert done.returncode in range(8), (argv, done.stdout, done.stderr)
    return done.returncode


def test_no_command_is_forgotten_here():
    assert registered() <= set(ARGV)


def test_no_command_opens_a_repository_of_the_guests(tmp_path: Path, canaries: Path):  # C09, C10
    user = CliUser(tmp_path)
    script = HOSTILE.replace("CANARY", str(canaries))
    _, opened, _ = user.session(
        {"command": script},
        {"command": f"{OPEN}echo; echo fired; ls {canaries}"},
        {"command": LATER},
    )
    # Where git does open it, it fires: inside, where it may.
    assert set(opened.result.content.rpartition("fired")[2].split()) >= FIRES

    def every_command() -> None:
        for name in sorted(registered()):
            for more in ARGV[name]:
                in_process(user, *name.split(), *more)
                assert list(canaries.iterdir()) == [], [name, *more]

    every_command()
    assert user.usermode("apply").returncode == 0
    assert (user.project / "plain.txt").exists()
    assert not any(path.name.lower().startswith(".git") for path in user.project.iterdir())
    # Asked for by name, it crosses; that is still no reason to open it, nor is a session that copies it.
    named = (".git", ".gitattributes", "nested", "linked", "custom", ".gitmodules")
    in_process(user, "apply", "last", *named, "--executable")
    in_process(user, "apply", "--executable", "--force")
    assert (user.project / ".gitattributes").exists()
    assert "path = included" in (user.project / ".git" / "config").read_text()
    every_command()
    modes = ["copy", "overlay"] if exact_unavailable() is None else ["copy"]
    for path in [user.project, *user.project.rglob("*")]:
        os.chown(path, 1000 if os.geteuid() == 0 else -1, -1, follow_symlinks=False)
    for mode in modes:
        user.session({"command": "echo again >> tracked"}, workspace_mode=mode)
        in_process(user, "diff", "--stat")
        in_process(user, "apply", "--force")
        assert in_process(user, "discard", "last") == 0
        assert list(canaries.iterdir()) == [], mode
