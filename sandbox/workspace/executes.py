"""Files that run on the host later, or decide what runs: they are reviewed and applied apart from the rest.

A name is compared the way the loosest file system would: letter case, compatibility forms and trailing dots
or spaces do not tell names apart. The table errs toward showing: a file listed here costs one more word to
apply.
"""

from __future__ import annotations

import re
import unicodedata

_SHELL = "read by a shell when it starts"
_PYTHON = "run by Python on its own"
_BYTECODE = "run by Python instead of the source beside it"
_TEST = "run by a test tool"
_COMPILED = "compiled code, which a diff cannot show"
_TOOL = "loaded as code by a tool"
_BUILD = "run by a build tool"
_CI = "run by continuous integration"
_EDITOR = "run or configured by an editor"
_AGENT = "configures a coding agent"
_PACKAGES = "scripts or settings of a package manager"
_GIT = "configures git, which can run programs"

_NAMES = {
    **dict.fromkeys(
        (
            ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc",
            ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".inputrc",
            ".xprofile", ".xinitrc", ".envrc", ".direnvrc", ".env", ".screenrc", ".tmux.conf",
        ),
        _SHELL,
    ),
    **dict.fromkeys(("sitecustomize.py", "usercustomize.py", ".pythonrc", ".pdbrc", "pyvenv.cfg"), _PYTHON),
    **dict.fromkeys(("conftest.py", "noxfile.py", "tox.ini", "pytest.ini", "setup.cfg"), _TEST),
    **dict.fromkeys(
        (
            "makefile", "gnumakefile", "bsdmakefile", "justfile", "taskfile.yml", "taskfile.yaml", "rakefile",
            "gemfile", "cmakelists.txt", "cmakepresets.json", "meson.build", "sconstruct", "sconscript",
            "build.rs", "build.xml", "pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle",
            "settings.gradle.kts", "gradlew", "gradlew.bat", "mvnw", "mvnw.cmd", ".bazelrc", "build.bazel",
            "workspace.bazel", "module.bazel", "workspace", "build", "setup.py", "pyproject.toml",
            "configure", "configure.ac", "wscript", "dodo.py", "tasks.py", "fabfile.py", "invoke.yaml",
            "vagrantfile", "dockerfile", "containerfile", "docker-compose.yml", "docker-compose.yaml",
            "compose.yml", "compose.yaml", "procfile", "tiltfile", "earthfile", "flake.nix", "shell.nix",
            "default.nix", "mise.toml", ".mise.toml", ".tool-versions", "devbox.json",
        ),
        _BUILD,
    ),
    **dict.fromkeys(
        (
            "package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "pnpm-workspace.yaml",
            "bunfig.toml", "composer.json", ".pypirc", "pip.conf", "cargo.toml", "deno.json", "deno.jsonc",
        ),
        _PACKAGES,
    ),
    **dict.fromkeys(
        (
            ".pre-commit-config.yaml", ".pre-commit-hooks.yaml", "lefthook.yml", "lefthook.yaml",
            ".lintstagedrc", ".gitattributes", ".gitmodules", ".gitconfig", ".overcommit.yml",
        ),
        _GIT,
    ),
    **dict.fromkeys(
        (
            ".gitlab-ci.yml", ".travis.yml", "jenkinsfile", "azure-pipelines.yml", "appveyor.yml",
            ".appveyor.yml", ".drone.yml", "bitbucket-pipelines.yml", ".cirrus.yml", "cloudbuild.yaml",
            "buildspec.yml", ".readthedocs.yaml",
        ),
        _CI,
    ),
    **dict.fromkeys((".vimrc", ".nvimrc", ".exrc", ".nvim.lua", ".dir-locals.el", ".emacs"), _EDITOR),
    ".editorconfig": _EDITOR,
    **dict.fromkeys(
        (".mcp.json", "mcp.json", ".cursorrules", ".aider.conf.yml", "claude.md", "agents.md"), _AGENT
    ),
}  # fmt: skip
_SUFFIXES = {
    **dict.fromkeys((".so", ".pyd", ".dll", ".dylib", ".exe", ".node", ".jar", ".class"), _COMPILED),
    ".pth": _PYTHON,
    ".pyc": _BYTECODE,
    ".pyo": _BYTECODE,
    ".mk": _BUILD,
    ".code-workspace": _EDITOR,
    ".sublime-project": _EDITOR,
    ".bzl": _BUILD,
}
_PATTERNS = (
    (re.compile(r"(?:eslint|prettier|babel|webpack|vite|vitest|jest|rollup|postcss|tailwind|next|nuxt|svelte|"
                r"metro|karma|playwright|cypress|commitlint|stylelint|tsup|esbuild|astro|remix)\.(?:config|setup)\.[cm]?[jt]s"),
     _TOOL),
    (re.compile(r"\.(?:eslintrc|prettierrc|babelrc|mocharc|stylelintrc|huskyrc).*"), _TOOL),
    (re.compile(r"(?:gulpfile|gruntfile|snakefile)(?:\..*)?"), _BUILD),
    (re.compile(r"(?:dockerfile|makefile|containerfile)\..+"), _BUILD),
)  # fmt: skip
_DIRECTORIES = {
    ".vscode": _EDITOR, ".idea": _EDITOR, ".fleet": _EDITOR, ".zed": _EDITOR, ".vim": _EDITOR, ".nvim":
    _EDITOR, ".devcontainer": _EDITOR, ".vs": _EDITOR, ".settings": _EDITOR, ".claude": _AGENT, ".cursor":
    _AGENT, ".codex": _AGENT, ".gemini": _AGENT, ".windsurf": _AGENT, ".continue": _AGENT, ".aider": _AGENT,
    ".usermode": _AGENT, ".pi": _AGENT, ".circleci": _CI, ".buildkite": _CI, ".gitea": _CI, ".forgejo": _CI,
    ".woodpecker": _CI, ".husky": _GIT, ".githooks": _GIT, ".cargo": _PACKAGES, ".yarn": _PACKAGES, ".bundle":
    _PACKAGES, ".mvn": _BUILD, "node_modules": _PACKAGES, ".venv": _PYTHON, "venv": _PYTHON, "site-packages":
    _PYTHON,
}  # fmt: skip
_PATHS = (
    (re.compile(r"(?:^|/)\.github/(?:workflows|actions)/"), _CI),
    (re.compile(r"(?:^|/)gradle/wrapper/"), _BUILD),
    (re.compile(r"(?:^|/)bin/activate[^/]*$"), _SHELL),
)
# Inside a repository's own directory: what names a program, a hook, or another place to read such from.
_GIT_INTERNAL = re.compile(
    r"(?:^|/)(?:config|config\.worktree|hooks/.*|info/attributes|commondir|gitdir|objects/info/alternates)$"
)


_GIT_NAME = re.compile(r"\.git|git~\d+")  # the second is how some file systems abbreviate the first


def folded(path: str) -> str:
    """A path as the loosest file system would compare it."""
    parts = unicodedata.normalize("NFKC", path).casefold().split("/")
    return "/".join(part.rstrip(". ") or part for part in parts)


def in_git(path: str) -> bool:
    """Whether a path is a repository's own directory (or the file that names one), or lies in it."""
    return any(_GIT_NAME.fullmatch(part) for part in folded(path).split("/"))


def reason_by_path(path: str) -> str | None:
    """Why a file of this relative path may run on the host later; None when nothing known would run it."""
    name = folded(path)
    parts = name.split("/")
    if in_git(path):
        if _GIT_NAME.fullmatch(parts[-1]) or _GIT_INTERNAL.search(name):
            return _GIT
        return None
    if reason := _NAMES.get(parts[-1]):
        return reason
    for part in parts[:-1]:
        if reason := _DIRECTORIES.get(part):
            return reason
    dot = parts[-1].rfind(".")
    if dot >= 0 and (reason := _SUFFIXES.get(parts[-1][dot:])):
        return reason
    for pattern, why in _PATTERNS:
        if pattern.fullmatch(parts[-1]):
            return why
    for pattern, why in _PATHS:
        if pattern.search(name):
            return why
    return None
