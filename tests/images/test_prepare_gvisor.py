"""`images/gvisor` on machines of every kind, played by stand-ins for the commands it calls and the engine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_ins import StandIns

SCRIPT = Path(__file__).parents[2] / "images" / "gvisor"
REAL = (
    "sh",
    "grep",
    "sed",
    "head",
    "cat",
    "mkdir",
    "mktemp",
    "rm",
    "mv",
    "chmod",
    "install",
    "awk",
    "sleep",
    "env",
)
GOOD = ["--network=none", "--platform=systrap", "--oci-seccomp", "--overlay2=none"]
RUNSC = """#!/bin/sh
case "$*" in
--version) echo "runsc version 0.0~{date}.0" ;;
*--platform={works}*) exit 0 ;;
*) exit 1 ;;
esac
"""


class Machine(StandIns):
    """One directory with a PATH, the daemon's settings, and an engine that knows the runtimes they name."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, REAL)
        self.settings = root / "daemon.json"
        self.target = root / "lib" / "runsc"
        self.known: dict[str, Any] = {"runc": {"path": "runc"}}
        self.command("id", "case $1 in -u) echo 0 ;; *) exit 1 ;; esac")
        self.command("systemctl", f': >"{root}/reloaded"')
        self._listen()

    def packages(self, date: int, works: str = "systrap", candidate: int = 0) -> None:
        """apt, which has gVisor of this date in the newer release, and of `candidate` in this one."""
        program = self.root / "packaged"
        program.write_text(RUNSC.format(date=date, works=works))
        program.chmod(0o755)
        self.command("apt-cache", f'echo "  Candidate: 0.0~{candidate}.0-2"')
        self.command(
            "apt-get",
            'case "$*" in indextargets*) . /etc/os-release; '
            'echo "Debian|$VERSION_CODENAME|http://mirror.test/debian/|main" ;; '
            "*download*) : >runsc_1_amd64.deb ;; esac",
        )
        self.command(
            "dpkg-deb",
            f'mkdir -p "$3/usr/bin"; cat "{program}" >"$3/usr/bin/runsc"; chmod 755 "$3/usr/bin/runsc"',
        )

    def _listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.root / "engine.sock"))
        self.listener.listen()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(4096)
                if (self.root / "reloaded").exists():
                    self.known = {
                        "runc": {"path": "runc"},
                        **json.loads(self.settings.read_text())["runtimes"],
                    }
                body = json.dumps({"Runtimes": self.known}).encode()
                peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT],
            env={
                "PATH": str(self.bin),
                "DOCKER_HOST": f"unix://{self.root}/engine.sock",
                "USERMODE_DAEMON_JSON": str(self.settings),
                "USERMODE_RUNSC": str(self.target),
                "USERMODE_RELOAD": "systemctl reload docker",
                "TMPDIR": str(self.root),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


debian = pytest.mark.skipif(
    "ID=debian" not in Path("/etc/os-release").read_text().splitlines(),
    reason="the script reads /etc/os-release, and only Debian has the package",
)


@debian
def test_root_on_debian_gets_the_newer_releases_package_and_the_daemon_hears_of_it(machine: Machine) -> None:
    machine.settings.write_text('{"log-driver": "local", "runtimes": {"other": {"path": "/o"}}}')
    machine.packages(20240729, candidate=20221219)
    result = machine.run()
    assert result.returncode == 0, result.stderr
    settings = json.loads(machine.settings.read_text())
    assert settings["log-driver"] == "local"
    assert settings["runtimes"] == {
        "other": {"path": "/o"},
        "runsc": {"path": str(machine.target), "runtimeArgs": GOOD},
    }
    assert "other" in machine.settings.with_name("daemon.json.before-gvisor").read_text()
    assert os.access(machine.target, os.X_OK)
    updates = [line for line in machine.log.read_text().splitlines() if " update" in line]
    assert updates[0] == "apt-get update -qq"
    # The other release is read with lists of its own, and nothing about it is trusted without a signature.
    assert "Dir::Etc::SourceParts=/dev/null" in updates[1]
    assert "trusted" not in SCRIPT.read_text()
    assert [path.name for path in machine.root.glob("tmp.*")] == []

    machine.log.write_text("")
    again = machine.run()
    assert (again.returncode, again.stdout) == (0, "the engine has gVisor\n")
    assert "apt-get" not in machine.log.read_text()


@debian
def test_this_releases_own_package_is_taken_where_it_is_new_enough(machine: Machine) -> None:
    machine.packages(20250101, candidate=20250101)
    assert machine.run().returncode == 0
    assert "SourceParts" not in machine.log.read_text()


@debian
def test_where_systrap_does_not_work_ptrace_is_taken(machine: Machine) -> None:
    machine.packages(20240729, works="ptrace")
    assert machine.run().returncode == 0
    assert "--platform=ptrace" in machine.settings.read_text()


@debian
@pytest.mark.parametrize(("date", "works"), [(20221219, "systrap"), (20240729, "neither")])
def test_a_program_that_will_not_do_is_not_installed(machine: Machine, date: int, works: str) -> None:
    machine.packages(date, works=works)
    result = machine.run()
    assert result.returncode == 1
    assert "is not of 20240729" in result.stderr or "does not run on this machine" in result.stderr
    assert not machine.target.exists()
    assert not machine.settings.exists()


@debian
def test_settings_that_cannot_be_read_are_left_as_they_are(machine: Machine) -> None:
    machine.settings.write_text('{"log-driver": ')
    machine.packages(20240729)
    result = machine.run()
    assert result.returncode == 1
    assert "left as it is" in result.stderr
    assert machine.settings.read_text() == '{"log-driver": '


def test_someone_who_is_not_root_is_told_and_nothing_is_done(machine: Machine) -> None:
    machine.command("id", "echo 1000")
    result = machine.run()
    assert result.returncode == 1
    assert "sudo make engine GVISOR=1" in result.stderr
    assert "apt-get" not in machine.log.read_text()


def test_a_system_without_apt_is_told_where_gvisor_is_explained(machine: Machine) -> None:
    result = machine.run()
    assert result.returncode == 1
    assert "docs/gvisor.md" in result.stderr


def test_an_engine_elsewhere_is_not_taken_for_this_machines(machine: Machine) -> None:
    result = machine.run(DOCKER_HOST="tcp://elsewhere:2376")
    assert result.returncode == 1
    assert "tcp://elsewhere:2376" in result.stderr


def test_no_engine_is_said_as_such(machine: Machine) -> None:
    result = machine.run(DOCKER_HOST=f"unix://{machine.root}/none.sock")
    assert result.returncode == 1
    assert "no Docker engine answers" in result.stderr


def test_a_gvisor_without_our_arguments_is_not_one_that_will_do(machine: Machine) -> None:
    machine.target.parent.mkdir()
    machine.target.write_text(RUNSC.format(date=20240729, works="systrap"))
    machine.target.chmod(0o755)
    machine.known["runsc"] = {"path": str(machine.target), "runtimeArgs": ["--platform=systrap"]}
    machine.command("id", "echo 1000")
    assert machine.run().returncode == 1
    machine.known["runsc"] = {"path": str(machine.target), "runtimeArgs": GOOD}
    assert machine.run().stdout == "the engine has gVisor\n"
