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
_STARTED = "started by a desktop or the system"
_GIT = "configures git, which can run programs"

_NAMES = {
    **dict.fromkeys(
        (
            ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc",
            ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".inputrc",
            ".xprofile", ".xinitrc", ".envrc", ".direnvrc", ".env", ".screenrc", ".tmux.conf",
            ".pam_environment", ".xsession", ".xsessionrc", ".login", ".logout",
        ),
        _SHELL,
    ),
    **dict.fromkeys(("sitecustomize.py", "usercustomize.py", ".pythonrc", ".pdbrc", "pyvenv.cfg"), _PYTHON),
    **dict.fromkeys(
        (
            "conftest.py", "noxfile.py", "tox.ini", "pytest.ini", ".pytest.ini", "pytest.toml", "setup.cfg",
            "mypy.ini", ".mypy.ini", ".flake8", ".rspec", "phpunit.xml", "phpunit.xml.dist",
        ),
        _TEST,
    ),
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
            ".justfile", "package.swift", "mix.exs", "rebar.config", "build.sbt", "build.sc", "setup.hs",
            "build.zig", "xmake.lua", "premake5.lua", "brewfile", "podfile", "fastfile", "dangerfile",
            "guardfile", "capfile", "config.ru", "turbo.json", "nx.json", "project.json", "lerna.json",
            "angular.json", "nodemon.json", "skaffold.yaml", "ansible.cfg", "pulumi.yaml", "hatch_build.py",
            "pixi.toml", "pdm.toml", "hatch.toml", "platformio.ini", "kconfig", "deps.edn", "project.clj",
            "meson_options.txt", "dune", "dune-project", "directory.build.props", "directory.build.targets",
            "nuget.config", "global.json",
        ),
        _BUILD,
    ),
    **dict.fromkeys(
        (
            "package.json", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "pnpm-workspace.yaml",
            "bunfig.toml", "composer.json", ".pypirc", "pip.conf", "cargo.toml", "deno.json", "deno.jsonc",
            ".pnp.cjs", ".pnp.loader.mjs", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock",
            "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock", "composer.lock", "cargo.lock",
            "gemfile.lock", "pipfile", "pipfile.lock", "poetry.lock", "uv.lock", "uv.toml", "pdm.lock",
            "environment.yml", "environment.yaml", "go.mod", "go.sum", "go.work",
        ),
        _PACKAGES,
    ),
    **dict.fromkeys(
        (
            ".pre-commit-config.yaml", ".pre-commit-hooks.yaml", "lefthook.yml", "lefthook.yaml",
            ".lintstagedrc", ".gitattributes", ".gitmodules", ".gitconfig", ".overcommit.yml",
            "prek.toml",
        ),
        _GIT,
    ),
    **dict.fromkeys(
        (
            ".gitlab-ci.yml", ".travis.yml", "jenkinsfile", "azure-pipelines.yml", "appveyor.yml",
            ".appveyor.yml", ".drone.yml", "bitbucket-pipelines.yml", ".cirrus.yml", "cloudbuild.yaml",
            "buildspec.yml", ".readthedocs.yaml", "action.yml", "action.yaml", "codefresh.yml", "wercker.yml",
            ".woodpecker.yml", ".woodpecker.yaml", "vercel.json", "netlify.toml", "fly.toml", "app.json",
        ),
        _CI,
    ),
    **dict.fromkeys((".vimrc", ".nvimrc", ".exrc", ".nvim.lua", ".dir-locals.el", ".emacs"), _EDITOR),
    **dict.fromkeys((".gdbinit", ".lldbinit", ".rprofile", ".renviron", ".mailcap", ".ripgreprc"), _TOOL),
    **dict.fromkeys(("desktop.ini", "autorun.inf"), _STARTED),
    ".editorconfig": _EDITOR,
    **dict.fromkeys(
        (".mcp.json", "mcp.json", ".cursorrules", ".aider.conf.yml", "claude.md", "agents.md"), _AGENT
    ),
    **dict.fromkeys(
        (
            "claude.local.md", "gemini.md", "qwen.md", "crush.md", "skill.md", "copilot-instructions.md",
            ".goosehints", ".windsurfrules", ".clinerules", ".roomodes", "opencode.json", "opencode.jsonc",
        ),
        _AGENT,
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
    **dict.fromkeys(
        (".whl", ".egg", ".pyz", ".gem", ".phar", ".vsix", ".xpi", ".wasm", ".o", ".a"), _COMPILED
    ),
    **dict.fromkeys((".elc", ".luac", ".beam", ".msi", ".deb", ".rpm", ".ko", ".lib"), _COMPILED),
    **dict.fromkeys((".sbt", ".nix", ".tf", ".cmake", ".gradle", ".gemspec", ".podspec", ".csproj"), _BUILD),
    **dict.fromkeys((".vcxproj", ".fsproj", ".targets", ".props"), _BUILD),
    **dict.fromkeys(
        (".desktop", ".service", ".timer", ".command", ".lnk", ".url", ".reg", ".scpt"), _STARTED
    ),
    **dict.fromkeys((".bat", ".cmd", ".ps1", ".psm1", ".vbs", ".hta"), _STARTED),
}
_PATTERNS = (
    # What a tool reads as its configuration, and runs, wherever its name ends like that.
    (re.compile(r".+\.(?:config|conf|setup|workspace)\.[cm]?[jt]s"), _TOOL),
    (re.compile(r"\..*rc(?:\.(?:[cm]?[jt]s|json5?|ya?ml|toml|py))?"), _TOOL),
    (re.compile(r".+\.so(?:\.\d+)+"), _COMPILED),
    (re.compile(r"\.env\..+"), _SHELL),
    (re.compile(r"(?:requirements|constraints)(?:[-_.].*)?\.(?:txt|in)"), _PACKAGES),
    (re.compile(r"(?:docker-)?compose\..*ya?ml"), _BUILD),
    (re.compile(r"tsconfig(?:\..+)?\.json"), _EDITOR),
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
    _PYTHON, ".kiro": _AGENT, ".roo": _AGENT, ".clinerules": _AGENT, ".amazonq": _AGENT, ".opencode": _AGENT,
    ".crush": _AGENT, ".junie": _AGENT, ".qwen": _AGENT, ".trae": _AGENT, ".agents": _AGENT, ".tekton": _CI,
    ".semaphore": _CI, ".teamcity": _CI, ".gitlab": _CI, ".azure-pipelines": _CI, ".config": _TOOL,
    ".ssh": _TOOL, ".gnupg": _TOOL, ".ipython": _PYTHON, ".jupyter": _PYTHON,
    ".hooks": _GIT, ".lefthook": _GIT,
}  # fmt: skip
_PATHS = (
    (re.compile(r"(?:^|/)\.github/(?:workflows|actions)/"), _CI),
    (re.compile(r"(?:^|/)gradle/wrapper/"), _BUILD),
    (re.compile(r"(?:^|/)bin/activate[^/]*$"), _SHELL),
    (re.compile(r"(?:^|/)\.local/(?:bin|lib|share/(?:applications|systemd))/"), _STARTED),
)
# Inside a repository's own directory: what names a program, a hook, or another place to read such from.
_GIT_INTERNAL = re.compile(
    r"(?:^|/)(?:config|config\.worktree|hooks/.*|info/attributes|commondir|gitdir|objects/info/alternates)$"
)


_GIT_NAME = re.compile(r"\.git|git~\d+")  # the second is how some file systems abbreviate the first


def folded(path: str) -> str:
    """A path as the loosest file system would compare it; what follows a colon names a stream of the same
    file there.
    """
    parts = unicodedata.normalize("NFKC", path).casefold().split("/")
    return "/".join(part.partition(":")[0].rstrip(". ") or part for part in parts)


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
