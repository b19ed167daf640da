"""Imports go one way, policies <- sandbox <- harness, and each library has one home (docs/design.md)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "policies": {"policies"},
    "sandbox": {"policies", "sandbox"},
    "harness": {"policies", "sandbox", "harness"},
}
"""What of this project each package may import. `images` is data and in nobody's set."""
HOMES = {
    "docker": ["sandbox/engine/*.py"],
    "rich": ["harness/screen/console.py"],
    "prompt_toolkit": ["harness/screen/editor.py"],
    "typer": ["harness/cli/*.py"],
    "anthropic": ["harness/providers/anthropic*.py"],
    "openai": ["harness/providers/openai*.py"],
}
"""Where alone a library may be imported, at the top or inside a function."""
FRONT = {
    "harness.cli",
    "harness.screen.console",
    "harness.screen.editor",
    "harness.commands",
    "harness.boot",
    "harness.__main__",
}
"""What knows the screen or wires everything: the rest of the harness is handed what it needs."""
KERNEL = ("harness.kernel.", "harness.process.")
SEAMS = {"harness.providers.retry"}
"""What of the providers the kernel may know beside their contract, `harness.provider`: no provider itself."""
OURS = sorted(path for package in BELOW for path in (ROOT / package).rglob("*.py"))


def imported(path: Path, tree: ast.AST) -> Iterator[str]:
    """Full dotted names; `from a import b` counts as `a.b`, so a module cannot hide behind its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def broken_rules(path: str, names: list[str]) -> list[str]:
    package = path.split("/")[0]
    module = path.removesuffix(".py").replace("/", ".")
    broken = []
    for name in names:
        top = name.split(".")[0]
        if top in {*BELOW, "images", "tests"} and top not in BELOW[package]:
            broken.append(f"{path}: {package} may not import {name}")
        if top in HOMES and not any(fnmatch(path, home) for home in HOMES[top]):
            broken.append(f"{path}: {top} belongs to {', '.join(HOMES[top])}")
        front = any(name == part or name.startswith(part + ".") for part in FRONT)
        if package == "harness" and front and not any(module.startswith(part) for part in FRONT):
            broken.append(f"{path}: only the front may import {name}")
        provider = name.startswith(("harness.providers.", "harness.drivers."))
        if module.startswith(KERNEL) and provider:
            broken += (
                []
                if any(name.startswith(seam) for seam in SEAMS)
                else [f"{path}: is handed {name}, not importing it"]
            )
    return broken


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way_and_libraries_stay_at_home(path: Path) -> None:
    names = list(imported(path, ast.parse(path.read_bytes())))
    assert broken_rules(path.relative_to(ROOT).as_posix(), names) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("policies/load.py", "from sandbox import open_sandbox"),
        ("sandbox/pool.py", "import harness.events"),
        ("sandbox/image.py", "import images"),
        ("sandbox/pool.py", "def late():\n    import docker"),
        ("harness/screen/log.py", "from rich.text import Text"),
        ("harness/kernel/loop.py", "from harness.providers.scripted import Scripted"),
        ("harness/kernel/loop.py", "from harness.screen import console"),
        ("harness/store.py", "import typer"),
        ("harness/providers/openai_chat.py", "import anthropic"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert broken_rules(path, list(imported(Path(path), ast.parse(source))))


def _module(name: str, modules: Collection[str]) -> str:
    """The file that a full dotted name stands in."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def _room(module: str) -> str:
    """The package under the top that it belongs to, or the file itself."""
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("of", [str, _room], ids=["file", "room"])
def test_nothing_is_imported_by_what_it_imports(of: Callable[[str], str]) -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in OURS
    }
    graph: dict[str, set[str]] = {}
    for own, path in modules.items():
        names = {of(_module(name, modules)) for name in imported(path, ast.parse(path.read_bytes()))}
        graph.setdefault(of(own), set()).update(names - {of(own), ""})
    TopologicalSorter(graph).prepare()  # CycleError names the circle
