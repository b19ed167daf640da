"""Which directories may be used in place, and that the one looked at is the one used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxRefused
from sandbox.workspace.pinned import danger, pinned


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "/etc/cron.d", "/usr/local/share", "/proc/1", "/sys", "/dev/shm", "/boot", "/var/lib",
     "/var/log/x",
     "/home", "/tmp", "/var", "/opt", "/people", "/people/ann", "/people/ann/.ssh",
     "/people/ann/.config/systemd",
     "/people/ann/.local/share/x", "/data/engine", "/data", "/data/engine/volumes/v",
     "/people/ann/state/sessions"],
)  # fmt: skip
def test_no_directory_of_the_system_a_home_or_our_own_is_a_project(path: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/people/ann")
    assert danger(Path(path), [Path("/data/engine"), Path("/people/ann/state")])


@pytest.mark.parametrize(
    "path",
    [
        "/people/ann/work",
        "/home/bob/x",
        "/opt/x",
        "/tmp/x",
        "/data2",
        "/srv/www/site",
        "/people/ann/.dotfiles",
    ],
)
def test_a_project_is_one_wherever_it_lies(path: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/people/ann")
    assert danger(Path(path), [Path("/data/engine"), Path("/people/ann/state")]) is None


def test_a_linked_system_directory_is_known_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    assert danger(tmp_path / "real" / "x", [tmp_path / "alias"])


@pytest.mark.parametrize(
    "bad", ["link", "aside/project", "project/../project", "file", "missing", "relative"]
)
def test_a_path_that_is_not_plainly_a_directory_is_refused(bad: str, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("project")
    (tmp_path / "aside").symlink_to(tmp_path)
    path = Path(bad) if bad == "relative" else Path(f"{tmp_path}/{bad}")
    with pytest.raises(SandboxRefused), pinned(path, []):
        pass


def test_the_directory_stays_the_one_that_was_looked_at(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine").touch()
    with pinned(project, []) as (held, path):
        assert path == project
        project.rename(tmp_path / "moved")
        project.symlink_to("/etc")
        assert os.listdir(held) == ["mine"]  # noqa: PTH208 - of a descriptor
