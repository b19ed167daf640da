"""A Docker engine of a test's own, beside the machine's: one that may be killed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import Popen

ANSWERS_S = 60.0


class SecondEngine:
    """dockerd beside a containerd of its own, as service managers start them: one may die without the other.

    In a network namespace of its own: one without a bridge takes away the bridge that it finds.
    """

    def __init__(self, where: Path) -> None:
        self.address = f"unix://{where}/docker.sock"
        self._where = where
        self._containerd: Popen[bytes] | None = None
        self._dockerd: Popen[bytes] | None = None

    async def start(self) -> None:
        """Both, or what is missing of them; returns when it answers."""
        if self._containerd is None:
            config = self._where / "containerd.toml"
            config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
            self._containerd = self._begun(
                "containerd", "--config", config, "--address", self._where / "containerd.sock",
                "--root", self._where / "images", "--state", self._where / "running",
            )  # fmt: skip
        self._dockerd = self._begun(
            "unshare", "--net",
            "dockerd", "--host", self.address, "--containerd", self._where / "containerd.sock",
            "--data-root", self._where / "data", "--exec-root", self._where / "exec",
            "--pidfile", self._where / "pid",
            "--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false",
        )  # fmt: skip
        async with asyncio.timeout(ANSWERS_S):
            while not await self._answers():
                assert self._dockerd.poll() is None, (self._where / "log").read_text()[-2000:]
                await asyncio.sleep(0.1)

    def _begun(self, *argv: str | Path) -> Popen[bytes]:
        with open(self._where / "log", "ab") as log:
            return Popen(argv, stdout=log, stderr=log)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.address.removeprefix("unix://"))
        except OSError:
            return False
        writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
        status = await reader.readline()
        writer.close()
        return b" 200 " in status

    async def kill(self) -> None:
        """dockerd alone, as a fault or the kernel would; containers are not asked."""
        await _end(self._dockerd, signal.SIGKILL)

    async def stop(self) -> None:
        """With all containers."""
        await _end(self._dockerd, signal.SIGTERM)
        await _end(self._containerd, signal.SIGTERM)


async def _end(process: Popen[bytes] | None, how: signal.Signals) -> None:
    if process is not None:
        process.send_signal(how)
        await asyncio.to_thread(process.wait)


@asynccontextmanager
async def second_engine() -> AsyncIterator[SecondEngine]:
    """Started; stopped and removed afterwards, with all that it ran."""
    # Not under the test's own directory: a socket's path may have only some hundred bytes.
    where = Path(tempfile.mkdtemp(prefix="engine-"))
    engine = SecondEngine(where)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if mount.split()[1].startswith(f"{where}/"):
                await (await asyncio.create_subprocess_exec("umount", "-l", mount.split()[1])).wait()
        shutil.rmtree(where, ignore_errors=True)
