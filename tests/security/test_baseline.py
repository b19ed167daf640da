"""The probes of the posture tests against a container as an engine starts it: there they find what we close.

Were a probe blind, its test on a session would pass whatever the session allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testcontainers.core.container import DockerContainer

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:testcontainers"),
]

Shell = Callable[[str], tuple[int, str]]


@pytest.fixture(scope="module")
def plain() -> Iterator[Shell]:
    """A shell in a plain container; its result is the exit code and the output of both streams."""
    with pytest.MonkeyPatch.context() as patch:
        # The library's own cleaner is an image to pull; this fixture removes its container itself.
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        # The host's network needs no bridge, which an engine may have been started without.
        container = DockerContainer("usermode/base", command="sleep 600", network_mode="host")
        with container:

            def run(text: str) -> tuple[int, str]:
                done = container.exec(["sh", "-c", text])
                return done.exit_code, done.output.decode()

            yield run


def status(text: str) -> dict[str, str]:
    fields = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in fields}


async def differs(plain: Shell, sh, probe: str) -> tuple[str, str]:
    """What the probe says in the plain container and in a session, which must not be the same."""
    there, here = plain(probe)[1].strip(), (await sh(probe)).stdout.decode().strip()
    assert there != here
    return there, here


async def test_capabilities_are_seen_where_there_are_any(plain: Shell, sh):  # A01
    there, here = await differs(plain, sh, "grep ^Cap /proc/self/status")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status(there)[name], 16) != 0
        assert int(status(here)[name], 16) == 0


async def test_missing_no_new_privileges_is_seen(plain: Shell, sh):  # A02
    # PR_GET_NO_NEW_PRIVS: not every kernel tells it in /proc.
    probe = "python3 -c 'import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))'"
    assert await differs(plain, sh, probe) == ("0", "1")


async def test_root_is_seen(plain: Shell, sh):  # A04
    there, here = await differs(plain, sh, "id -u")
    assert there == "0"
    assert here != "0"


@pytest.mark.parametrize("path", ["/usr/x", "/etc/x", "/x", "/root/x"])
async def test_a_writable_root_is_seen(plain: Shell, sh, path: str):  # A05
    probe = f"touch {path} && ls {path}"
    assert plain(probe) == (0, f"{path}\n")
    done = await sh(probe)
    assert done.exit_code != 0
    assert done.stdout == b""


async def test_network_devices_are_seen(plain: Shell, sh):  # A08
    probe = "sed -n '3,$s/:.*//p' /proc/net/dev"
    there, here = await differs(plain, sh, probe)
    assert here == "lo"
    assert set(there.split()) > {"lo"}


async def test_a_device_that_can_be_made_is_seen(plain: Shell, sh, runtime):  # A09
    probe = "mknod /tmp/made c 1 3 && ls /tmp/made"
    assert plain(probe) == (0, "/tmp/made\n")
    # gVisor lets a node be made in memory; behind it are only devices of its own (`test_posture.py`).
    assert (await sh(probe)).stdout == (b"/tmp/made\n" if runtime == "runsc" else b"")
