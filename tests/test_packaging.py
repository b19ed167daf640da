"""What is installed is what is needed: the wheel's contents, and the command in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from harness import __version__

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(600)


def ran(*argv: str | Path, cwd: Path) -> str:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "USERMODE"))
    }
    done = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    ran(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = ran("git", "ls-files", "harness", "sandbox", "policies", "images", cwd=ROOT).splitlines()
    assert set(tracked) <= inside
    assert {name.split("/")[0] for name in inside} == {"harness", "sandbox", "policies", "images"}
    for needed in (
        "policies/profiles/strict.toml",
        "policies/seccomp/strict.json",
        "images/init/main.c",
        "images/base/Dockerfile",
        "images/dev/Dockerfile",
        "harness/py.typed",
    ):
        assert needed in inside


def test_the_command_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "clean"
    venv.create(home)
    python = home / "bin" / "python"
    # The pip at hand installs there; what is not imported need not be compiled.
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "-q")
    ran(*pip, "install", "--no-compile", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    ran(*pip, "check", cwd=tmp_path)
    usermode = home / "bin" / "usermode"
    assert ran(usermode, "--version", cwd=tmp_path).strip() == f"usermode {__version__}"
    assert "strict" in ran(usermode, "policy", "list", cwd=tmp_path)
    # Every module can be imported with what the wheel asks for; a missing dependency would show here.
    ran(python, "-c", "import harness.boot.start, harness.screen.console, sandbox, policies", cwd=tmp_path)
