"""`make test` runs two files of tests side by side; each file stays together, in its own order.

Tests that leave containers without a harness, and those that collect such containers, form one group and run
one after the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
ORPHANS = {
    "security/test_orphans.py",
    "security/test_hostile_repository.py",
    "sandbox/test_lifecycle.py",
    "harness/test_cli_session.py",
    "recovery/test_resume_docker.py",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group("orphans" if file in ORPHANS else file))
