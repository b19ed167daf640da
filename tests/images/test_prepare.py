"""`images/prepare` on machines of every kind, played by stand-ins for the commands it calls.

Each stand-in writes its name and arguments to a log; the log is what was done to the machine.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from stand_ins import StandIns

SCRIPT = Path(__file__).parents[2] / "images" / "prepare"
REAL = ("sh", "grep", "sleep", "timeout", "cat", "setsid", "nohup", "true", "env")


class Machine(StandIns):
    def __init__(self, root: Path) -> None:
        super().__init__(root, REAL)
        self.command("id", 'if [ "$1" = -un ]; then echo someone; else echo 1000; fi')

    def root_user(self) -> None:
        self.command("id", "echo 0")

    def run(self, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, what],
            env={
                "PATH": str(self.bin),
                "USERMODE_DOCKERD_LOG": str(self.root / "dockerd.log"),
                "DOCKER_HOST": "",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def done(self) -> list[str]:
        """What was done, without what was only asked."""
        asked = ("id ", "docker version", "python3 ")
        return [line for line in self.log.read_text().splitlines() if not line.startswith(asked)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_engine_that_answers_is_left_alone(machine: Machine) -> None:
    machine.root_user()
    machine.command("docker", "echo 20.10")
    machine.command("apt-get")
    machine.command("dockerd")
    result = machine.run("engine")
    assert (result.returncode, result.stdout, machine.done()) == (0, "a Docker engine answers\n", [])


def test_an_engine_is_found_without_a_docker_command(machine: Machine) -> None:
    address = machine.root / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

        thread = threading.Thread(target=answer)
        thread.start()
        result = machine.run("engine", DOCKER_HOST=f"unix://{address}")
        thread.join()
    assert (result.returncode, result.stdout) == (0, "a Docker engine answers\n")


def test_someone_who_is_not_root_is_told_what_to_do_and_nothing_is_done(machine: Machine) -> None:
    machine.command("docker", "exit 1")
    machine.command("apt-get")
    result = machine.run("engine")
    assert result.returncode == 1
    assert "usermod -aG docker someone" in result.stderr
    assert machine.done() == []


def test_an_engine_named_by_docker_host_is_not_replaced_by_another(machine: Machine) -> None:
    machine.root_user()
    machine.command("docker", "exit 1")
    machine.command("apt-get")
    result = machine.run("engine", DOCKER_HOST="tcp://elsewhere:2376")
    assert result.returncode == 1
    assert "tcp://elsewhere:2376" in result.stderr
    assert machine.done() == []


def test_root_without_apt_is_told_where_docker_is_explained(machine: Machine) -> None:
    machine.root_user()
    machine.command("docker", "exit 1")
    result = machine.run("engine")
    assert result.returncode == 1
    assert "not installed" in result.stderr


def test_root_on_debian_gets_docker_installed_and_started(machine: Machine) -> None:
    """A docker command without a daemon, as some machines have it, is not taken for an engine."""
    machine.root_user()
    up = machine.root / "up"
    dockerd = machine.bin / "dockerd"
    machine.command("docker", f'[ -e "{up}" ]')
    machine.command("cgroupfs-mount")
    machine.command("systemctl", f': >"{up}"')
    machine.command(
        "apt-get",
        f'case "$*" in *docker.io*) printf \'#!/bin/sh\\necho "dockerd" >>"{machine.log}"\\n: >"{up}"\\n\' '
        f'>"{dockerd}"; "{sys.executable}" -c "import os; os.chmod(\'{dockerd}\', 0o755)" ;; esac',
    )
    result = machine.run("engine")
    assert result.returncode == 0, result.stderr
    done = [line for line in machine.done() if not line.startswith("cgroupfs-mount")]
    assert done[:2] == ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends docker.io"]
    assert done[2:] == (["systemctl start docker"] if Path("/run/systemd/system").is_dir() else ["dockerd"])
    assert result.stdout.endswith("a Docker engine answers\n")


def test_a_python_that_has_all_is_left_alone(machine: Machine) -> None:
    result = machine.run("python")
    assert (result.returncode, machine.done()) == (0, [])


def test_a_python_too_old_is_named(machine: Machine) -> None:
    machine.command("python3", 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    result = machine.run("python")
    assert result.returncode == 1
    assert "Python 3.11 or later is needed; python3 is Python 3.9.2" in result.stderr


def test_a_python_without_venv_is_completed_by_root_and_named_to_others(machine: Machine) -> None:
    machine.command("python3", 'case "$*" in *ensurepip*) exit 1 ;; esac')
    machine.command("apt-get")
    result = machine.run("python")
    assert result.returncode == 1
    assert "python3-venv" in result.stderr
    assert machine.done() == []
    machine.root_user()
    assert machine.run("python").returncode == 0
    assert machine.done()[-1] == "apt-get install -y -qq --no-install-recommends python3-venv"
