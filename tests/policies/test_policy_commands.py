"""Consent by command words is narrow: real bypasses of other harnesses' allow lists meet no consent here.

Each entry is a line that begins with an allowed command and does more than that command says.
"""

import pytest

from policies import Policy
from policies.commands import covers, may_mean
from policies.decide import Request, decide
from policies.schema import Rule, When
from policies.shell import parse

ALLOWED = [
    *(
        "ls",
        "cat",
        "echo",
        "find",
        "sort",
        "rg",
        "git log",
        "git diff",
        "git show",
        "git grep",
        "git ls-remote",
        "git",
    ),
    *(
        "man",
        "file",
        "xxd",
        "tree",
        "date",
        "hostname",
        "ps",
        "awk",
        "sed",
        "env",
        "xargs",
        "timeout",
        "nohup",
        "tar",
    ),
    *(
        "npm test",
        "pytest",
        "make",
        "python3",
        "python3.11",
        "node",
        "bash",
        "less",
        "vim",
        "zip",
        "printf",
        "grep",
    ),
    *(
        "git clone",
        "git bisect",
        "git rebase",
        "git submodule",
        "git archive",
        "git blame",
        "ssh",
        "docker",
        "docker ps",
        "podman",
        "kubectl",
        "uniq",
    ),
    *(
        "nice",
        "setsid",
        "stdbuf",
        "ionice",
        "sudo",
        "doas",
        "parallel",
        "script",
        "unshare",
        "chroot",
        "ed",
        "nl",
    ),
    *("flock", "time", "eval", "source", ".", "zsh", "dash", "fish", "ld-linux.so", "fg"),
    *(
        "command",
        "builtin",
        "exec",
        "strace",
        "watch",
        "busybox",
        "pip install",
        "cargo build",
        "go generate",
        "export",
    ),
]
BYPASSES = {
    "E01, E02 substitution": [
        "echo $(touch /p)", "echo `touch /p`", 'echo "${x:-$(id)}"', "echo $((a[$(id)]))",
        "echo $[ x='a[$(touch F)]', x ]", 'echo "$(touch /p)"', "echo ${x@P}", "cat <(curl x)",
        "ls > >(sh)", "git log --format=$(id)", "git log --format=<(id)", "cat $IFS/etc/passwd",
        "echo $'\\x41'", "ls $(<f)", "echo ${!x}", "cat `which sh`",
    ],
    "E03 several commands": [
        "ls; rm x", "ls && rm x", "ls || rm x", "ls | sh", "ls & rm x", "ls\nrm x", "ls |& sh", "! rm x",
        "{ rm x; }", "(rm x)", "if ls; then rm x; fi", "for f in a; do rm f; done",
        "while ls; do rm x; done", "case a in a) rm x;; esac", "ls() { rm x; }; ls",
        "function ls { rm x; }; ls", "coproc rm x", "time rm x", "ls &", "ls;rm x", "ls\r\nrm x",
        "ls \\\n; rm x", "ls | tee f", "ls && ls && sh", "ls\n\n\nsh", "ls # \nsh",
    ],
    "E04 environment": [
        "LD_PRELOAD=./x ls", "PATH=. ls", "GIT_PAGER=sh git log", "BASH_ENV=x bash -c ls", "PS4=$(id)",
        "PATH=.; ls", "export PATH=.; ls", "X+=1 ls", "A=1 B=2 ls", "env PATH=. ls",
        "GIT_EXTERNAL_DIFF=sh git diff",
    ],
    "E06 options": [
        "sort -o f", "sort -of x", "sort -ro f x", "sort --output=f", "sort --o=f",
        "sort --compress-program=sh", "sort --comp sh", "sort -T /x a", "man -P sh ls", "man --html=sh ls",
        "man ls", "file -m f x", "file -f f", "xxd -r a b", "xxd a b", "tree -o f", "date -s 0",
        "date 01010101", "hostname x", "ps e", "uniq a b", "printf -v PATH x", "ls --foo | sort -o f",
    ],
    "E07 find": [
        "find . -exec sh -c id ';'", "find . -execdir sh ';'", "find . -ok sh ';'", "find . -okdir sh ';'",
        "find . -delete", "find . -fprint f", "find . -fprint0 f", "find . -fprintf f x", "find . -fls f",
        "find . '-exec' sh ';'", "find . -files0-from f", 'find . "-delete"',
    ],
    "E08 rg": [
        "rg --pre sh x", "rg --pre=sh x", "rg --hostname-bin sh x", "rg -z x", "rg -iz x",
        "rg --search-zip x",
    ],
    "E10 awk and sed": [
        "awk 'BEGIN{system(\"id\")}'", "awk 'BEGIN{print | \"sh\"}'", "awk -f x", "awk '{print > \"f\"}'",
        "sed 's/x/id/e' f", "sed -n '1w f' x", "sed -i s/a/b/ f",
    ],
    "E11 git": [
        "git -c core.pager=sh log", "git -c alias.x='!sh' x", "git --exec-path=. log", "git -C /other log",
        "git --git-dir=x log", "git --work-tree=x log", "git --config-env=core.pager=X log",
        "git diff --ext-diff", "git log --ext-diff", "git log --textconv", "git log --output=f",
        "git log --outpu=f", "git diff --output f", "git grep -O", "git grep -Osh x",
        "git grep --open-files-in-pager=sh x", "git ls-remote ext::sh", "git clone -u sh x",
        "git clone ext::sh", "git clone --upload-pack=sh x", "git archive --exec=sh x", "git -p log",
        "git --paginate log", "git bisect run sh", "git rebase -x sh", "git submodule foreach sh",
        "git blame --contents /etc/passwd f", "git diff --no-index / x", "git show --ext-diff",
    ],
    "E12 wrappers": [
        "env sh", "xargs sh", "nohup sh", "timeout 5 sh", "watch sh", "busybox sh", "command sh",
        "builtin eval id", "exec sh", "strace sh", "ssh -o ProxyCommand=sh h",
        "tar --checkpoint-action=exec=sh x", "tar -I sh x", "zip -TT sh x", "vim -c ':!sh'", "less f",
        "nice sh", "setsid sh", "stdbuf -o0 sh", "ionice sh", "sudo sh", "doas sh", "run-parts d",
        "parallel sh", "script -c sh", "unshare sh", "chroot / sh", "ld-linux.so ./x", "ld.so x",
        "ed f", "nl -b f", "flock f sh", "time sh", "eval id", "source f", ". f", "zip -T x y",
    ],
    "E21 clients with another server": [
        "docker -H x ps", "docker --host=x ps", "docker --context x ps", "podman --url x ps",
        "podman --connection x ps", "podman --identity k ps", "kubectl --server x get",
    ],
    "E24 another shell": [
        "bash -l", "bash -lc ls", "bash --rcfile f -i", "sh -c ls", "zsh f", "dash f", "fish f",
        "env 'BASH_FUNC_ls%%=() { id; }' bash -c ls",
        "'BASH_FUNC_ls%%=x' ls", "exec -a ls sh", "%1",
    ],
    "E13 interpreters": [
        "python3 -c x", "python3.11 -c x", "python3 f.py", "node -e x", "make -f x", "npm test x",
        "npm test -- x", "pip install .", "pytest x", "cargo build -v", "go generate x", "bash -c id",
        "bash f",
    ],
    "E16, E23 redirections": [
        "echo x > ~/.bashrc", "ls > f", "cat >> f", "cat <<EOF $(id)\nEOF", "cat <<EOF\n$(id)\nEOF",
        "cat <<'E'\nx\nE", "cat <<-E\nE", "cat <<A <<B\nA\nB", "bash <<< id", "cat <<E > f\nE", "ls 2>f",
        "ls &>f", "ls >&2", "ls >|f", "echo x >f",
    ],
    "E17 quoting": [
        'echo "\\"; touch /p; echo \\""', "echo \"a\" '; touch /p", "l\\s; rm", 'ls "$(id)"',
        'echo "x\n$(id)"', "echo 'a\\''; id", "ls $'\\n'rm", 'ls"; id"; id',
    ],
    "expansion into options": [
        "ls *", "find {.,-delete}", "cat ~/x", "sort ?", "git log [a-z]", "echo ~root", "ls -{l,a}",
    ],
    "E20 other names": [
        "/bin/ls", "./ls", "../ls", "lsx", "ls-evil", "LS", "git logx", "git-log", "catx", "ls\u00a0x",
        "ls\u200b",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def consenting() -> Policy:
    rules = [
        Rule(syscall="bash", action="allow", reason="Fine.", when=When(command=words)) for words in ALLOWED
    ]
    return Policy(name="test", rules=tuple(rules))


@pytest.mark.parametrize("kind", BYPASSES)
def test_a_known_bypass_is_not_allowed(consenting, kind):
    allowed = [
        line for line in BYPASSES[kind] if decide(consenting, Request("bash", command=line)).action == "allow"
    ]
    assert allowed == []


@pytest.mark.parametrize("kind", BYPASSES)
def test_a_known_bypass_of_a_narrower_list_is_asked_about_or_denied(kind):
    """The same under the usual two or three rules, with silence meaning a question."""
    rules = [
        Rule(syscall="bash", action="allow", reason="Fine.", when=When(command=words))
        for words in ("ls", "cat", "git log", "find", "npm test", "python3 -m pytest")
    ]
    policy = Policy(name="few", rules=tuple(rules), unmatched="ask")
    assert {decide(policy, Request("bash", command=line)).action for line in BYPASSES[kind]} == {"ask"}


@pytest.mark.parametrize(
    "path",
    [
        "/workspace-evil/a", "/workspace/../etc/passwd", "/workspace/./../etc", "/Workspace/a",
        "workspace/a", "//workspace/../etc/x", "/workspace/a/../../etc", "/proc/self/cwd/a", "$HOME/a", "~/a",
        "/workspace\0/../etc", "/workspace ", "\n/workspace/a",
    ],
)  # fmt: skip
def test_e19_a_path_that_only_looks_like_an_allowed_one_is_not_allowed(path):
    rule = Rule(syscall="read", action="allow", reason="Fine.", when=When(path="/workspace/**"))
    assert decide(Policy(name="p", rules=(rule,)), Request("read", path=path)).action == "deny"


@pytest.mark.parametrize(
    "line",
    [
        "ls", "ls -la /workspace", "cat a.txt b.txt", "echo 'hello; world'", "find . -name '*.py' -type f",
        "rg -n 'a|b' src", "git log --oneline -n 20", "git diff --stat HEAD -- src", "git show HEAD",
        "ls && cat a | sort -n -k2,2", "grep -rn x .", "npm test", "pytest", "make", "date", "tree src",
        "file a", "sort -u a", "git log -p src", "git blame -L 1,5 a", "ls;\ncat a\n", "git clone",
        "python3",
    ],
)  # fmt: skip
def test_an_ordinary_line_of_allowed_commands_is_allowed(consenting, line):
    assert decide(consenting, Request("bash", command=line)).action == "allow"


def test_a_rule_that_names_an_option_consents_to_it():
    assert covers("python3 -m pytest", ("python3", "-m", "pytest"))
    assert not covers("python3 -m pytest", ("python3", "-m", "pytest", "-p", "evil"))
    assert covers("mytool --fast", ("mytool", "--fast", "a"))
    assert not covers("mytool", ("mytool", "--fast"))
    assert not covers("ls", ())


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("rm", "rm x"), ("rm", "/bin/rm x"), ("rm", "\\rm x"), ("rm", "command rm x"),
        ("rm", "true; rm x"), ("rm", "'r'm x"), ("rm", "xargs rm"), ("rm", "sudo /bin/rm x"),
        ("rm", "bash -c 'cd /; rm -rf x'"), ("rm", "x=$(rm y)"), ("/bin/rm", "rm x"),
        ("rm", "if a; then rm x; fi"), ("rm", "find . -name x | xargs -n1 rm"), ("rm", "a && { rm x; }"),
        ("rm", "env A=1 rm x"), ("git push", "git push origin main"), ("git push", "git -C /x push"),
        ("git push", "git -c a=b --no-pager push"), ("git push", "git${IFS}push"),
        ("git push", "cd x && git push &"), ("git push", "timeout 5 git push"),
        ("git push", "GIT_SSH=x git push"), ("git push", "git \\\n push"),
        ("git push", "eval \"git push\""), ("git push", "/usr/bin/git push > /dev/null 2>&1"),
        ("curl", "python3 -c 'x(\"curl\")'"), ("rm", "cat <<E\n$(rm x)\nE"),
    ],
)  # fmt: skip
def test_a_refusal_reaches_a_command_however_it_is_wrapped(rule, line):
    assert may_mean(rule, parse(line))


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("rm", "ls rm"), ("rm", "echo 'rm x'"), ("git push", "git status"),
        ("git push", "git commit -m x push"), ("rm", "rmdir x"), ("git push", "echo git push"),
        ("rm", "cat $x"), ("git push", "push git > x"), ("rm", ""), ("git push", "git log -n 5 x push"),
    ],
)  # fmt: skip
def test_a_refusal_leaves_other_commands_alone(rule, line):
    assert not may_mean(rule, parse(line))


@pytest.mark.parametrize("line", ["x=r; y=m; $x$y -rf a", "unlink a", "find . -delete", "./script"])
def test_a_refusal_by_text_is_advice_and_no_boundary(line):
    """Known limits, written down so that nobody takes a deny rule for containment."""
    assert not may_mean("rm", parse(line))
