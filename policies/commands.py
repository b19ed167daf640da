"""What a rule's command words mean for a command that was read: consent is narrow, refusal is wide.

An allow rule covers a command that begins with its words, but extra words must be harmless by what is
known of the program; nothing is known of most. A deny or ask rule means every command that might be
meant. Both stay text matching: a script, an alias or a program of another name is beyond them, and what
such a program may do is the sandbox's job.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from policies.shell import Parsed, Words, flat, flat_words, mentions

# Programs that run what they are told to: shells, interpreters, wrappers, builders, runners, editors, pagers.
_RUNS_OTHERS = """
    sh bash dash zsh ksh mksh fish csh tcsh ash busybox toybox pwsh python pypy ipython perl ruby node
    nodejs deno bun lua luajit php tclsh wish expect R Rscript julia guile scala java groovy kotlin jshell
    erl elixir iex ghci runghc ocaml swift go cargo rustc gcc g++ cc c++ clang ld dotnet mono awk gawk
    mawk nawk sed ed ex vi vim nvim view emacs nano less more most man info pico bat bc dc gdb lldb env
    xargs nohup timeout nice ionice setsid stdbuf watch sudo doas su runuser command builtin eval exec
    source . parallel script strace ltrace unshare nsenter chroot time flock chrt taskset numactl setarch
    linux prlimit unbuffer systemd-run at batch crontab ssh scp sftp rsync rsh telnet nc ncat socat curl
    wget ftp tar zip unzip cpio ar 7z make gmake cmake ninja meson bazel just task rake gradle mvn ant sbt
    npm npx pnpm yarn pip pipx uv poetry hatch tox nox pytest py.test jest mocha vitest gem bundle
    composer pre-commit docker podman nerdctl kubectl helm buildah terraform ansible ansible-playbook
    vagrant screen tmux dpkg apt apt-get dnf yum rpm snap brew nix openssl gpg run-parts logsave cpulimit
    fakeroot faketime firejail start-stop-daemon valgrind perf rlwrap sshpass torify torsocks proxychains
    choom setpriv capsh pkexec newgrp sg xvfb-run entr hyperfine tsx ts-node bunx pdm rye pixi conda mamba
    nix-shell cabal stack dune zig logrotate run-mailcap rbash ld.so fg bg
"""
# Programs and builtins whose plain operands do more than they seem to: write, set or show state.
_ACTS_ON_OPERANDS = """
    xxd uniq date hostname ps export declare typeset local readonly unset set alias unalias shopt enable
    hash trap read mapfile readarray
"""
_EXACT = frozenset((_RUNS_OTHERS + _ACTS_ON_OPERANDS).split())
# Programs of which no option and no operand does more than read.
_READS = (
    "basename cat cut df dirname du echo false grep head id ls nproc pwd readlink realpath stat tail tr true"
)
_OPTIONS: dict[str, Words] = {
    # Programs whose options were read one by one; the others may take no option that the rule does not name.
    **dict.fromkeys(_READS.split(), ()),
    **dict.fromkeys(("uname", "wc", "whoami"), ()),
    "rg": ("--pre", "--pre-glob", "--hostname-bin", "--search-zip", "-z"),
    "sort": ("--output", "-o", "--compress-program", "--temporary-directory", "-T", "--files0-from"),
    "git": (
        *(
            "--output",
            "--ext-diff",
            "--textconv",
            "--open-files-in-pager",
            "-O",
            "--contents",
            "--exec",
            "-x",
        ),
        *(
            "--upload-pack",
            "-u",
            "--paginate",
            "--config-env",
            "--git-dir",
            "--work-tree",
            "--no-index",
            "--filters",
        ),
    ),
}
_GIT_READS = frozenset(
    {"log", "status", "diff", "show", "rev-parse", "rev-list", "ls-files", "ls-tree", "shortlog", "describe"}
    | {"blame", "grep", "cat-file", "merge-base"}
)


class _Spellings(NamedTuple):
    """Of some options: every abbreviation of the long ones, and the letters of the short ones."""

    long: frozenset[str]
    letters: frozenset[str]

    @classmethod
    def of(cls, options: Words) -> _Spellings:
        long = [option for option in options if option.startswith("--")]
        abbreviations = (option[:end] for option in long for end in range(3, len(option) + 1))
        return cls(frozenset(abbreviations), frozenset(one[1] for one in options if one not in long))

    def have(self, word: str) -> bool:
        """Whether a word that begins with `-` may be one: abbreviated, with its value, or in a cluster."""
        if word.startswith("--"):
            return word.partition("=")[0] in self.long
        return not self.letters.isdisjoint(word[1:])


_REFUSED_OPTIONS = {program: _Spellings.of(options) for program, options in _OPTIONS.items()}
_FIND_ACTS = ("-exec", "-ok", "-delete", "-fprint", "-fls", "-files0")


def covers(rule: str, command: Words) -> bool:
    """Whether an allow rule's words are consent to this command."""
    return not objection(rule, command)


@lru_cache(maxsize=1024)
def begins_with(rule: str) -> str:
    """The first word of every command that an allow rule covers."""
    return _consent(rule).words[0]


def objection(rule: str, command: Words) -> str:
    """Why an allow rule's words are no consent to this command; empty if they are."""
    words, closed, options, refused = _consent(rule)
    if command[: len(words)] != words:
        return "it begins otherwise"
    extra = command[len(words) :]
    if extra and closed:
        return closed
    for word in extra:
        if word.startswith(options) and (refused is None or refused.have(word)):
            return f"the rule does not name the option {word[:100]}"
    return ""


class _Consent(NamedTuple):
    """What an allow rule's words are consent to."""

    words: Words
    """Begin the command."""
    closed: str
    """Why no further word may follow; empty if some may."""
    options: Words
    """Beginnings of further words that may not follow."""
    refused: _Spellings | None
    """Only these of them may not; without it, none may follow."""


@lru_cache(maxsize=1024)
def _consent(rule: str) -> _Consent:
    words = tuple(rule.split(" "))
    program = _program(words[0])
    closed = ""
    if runs_others(program):
        closed = f"{program} does what its words say, so only the rule's own words are consent"
    elif program == "git" and (len(words) < 2 or words[1] not in _GIT_READS):
        closed = "of this git command, only the rule's own words are consent"
    if program == "find":
        return _Consent(words, closed, _FIND_ACTS, None)
    refused = _REFUSED_OPTIONS.get(program)
    return _Consent(words, closed, ("-", "+") if refused is None else ("-",), refused)


def keeps_meaning(command: Words) -> bool:
    """Whether consent to exactly these words may be kept for good: they mean the same tomorrow.

    Not those of a program that runs what it is told or finds (shells, interpreters, wrappers, builders), of a
    program named by a path, nor of git with options before its command.
    """
    program, *rest = command
    if "/" in program or runs_others(program):
        return False
    return program != "git" or bool(rest and not rest[0].startswith("-"))


def may_mean(rule: str, parsed: Parsed) -> bool:
    """Whether a deny or ask rule's words could be what this line does. Advisory: lines can hide better."""
    program, words, anywhere = _refusal(rule)
    if parsed.commands is None:
        return mentions(anywhere, parsed.flat)
    for command in parsed.by_program.get(program, ()):
        if _meant_by(words, command):
            return True
    for head, commands in parsed.by_program.items():
        if runs_others(head) and any(mentions(anywhere, flat(" ".join(words))) for words in commands):
            return True
    return False


@lru_cache(maxsize=1024)
def program_of(rule: str) -> str:
    """The program that a rule's words are about, without a path."""
    return _refusal(rule).program


def programs(parsed: Parsed) -> Collection[str] | None:
    """All that a line runs: a refusal of another program is not meant by it. None when that cannot be told,
    as of a program that runs what its words say.
    """
    if parsed.commands is None or any(map(runs_others, parsed.by_program)):
        return None
    return parsed.by_program.keys()


def _meant_by(words: Words, command: Words) -> bool:
    """Whether a program's operands begin with these words, as far as options leave that open."""
    found, after_option = 0, False
    for operand in command[1:]:
        if found == len(words):
            return True
        if operand == words[found]:
            found, after_option = found + 1, False
            continue
        # Options and a word after one, perhaps its value, may stand between: `git -C /x push` is a `git
        # push`.
        is_option = operand.startswith("-")
        if not is_option and not after_option:
            return False
        after_option = is_option
    return found == len(words)


class _Refusal(NamedTuple):
    """What a deny or ask rule's words mean."""

    program: str
    """Without a path."""
    words: Words
    """That follow it."""
    anywhere: tuple[bytes, ...]
    """All of them, as `mentions` wants them."""


@lru_cache(maxsize=1024)
def _refusal(rule: str) -> _Refusal:
    program, *words = rule.split(" ")
    program = _program(program)
    return _Refusal(program, tuple(words), flat_words(" ".join((program, *words))))


@lru_cache(maxsize=256)
def runs_others(program: str) -> bool:
    """Whether a program runs what its operands tell it to, or acts on them."""
    # A dynamic loader starts the program it is given; its name says for which machine.
    return (
        program in _EXACT
        or program.rstrip("0123456789.-") in _EXACT
        or program.startswith(("ld-linux", "ld-musl"))
    )


def _program(word: str) -> str:
    return word.rsplit("/", 1)[-1]
