"""How the suite is run: long files first, and the bytecode kept between the programs that it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LONG_FIRST = (
    "harness/test_cli_session.py",
    "contract/test_contract.py",
    "images/test_init_sanitized.py",
    "recovery/test_kill_points.py",
    "security/test_exhaustion.py",
    "recovery/test_resume_docker.py",
    "security/test_attack_suite.py",
    "docker/test_small_images.py",
    "test_packaging.py",
    "security/test_egress_session.py",
    "security/test_hostile_repository.py",
    "harness/test_cli.py",
    "security/test_sudo_terminal.py",
    "security/test_chat_pty.py",
    "security/test_checkpoints_hostile.py",
)
"""Files of a quarter of a minute and more, or one of them would be left alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files of the most tests, which are not the long ones.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    # The command line is started some hundred times, and each time all of it would be compiled again.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(HERE.parent / "build" / "bytecode")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {HERE / name: place for place, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
