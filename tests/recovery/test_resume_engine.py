"""An engine that died with its containers, one that does not answer, and downloads that were under way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from left import commands, gone_on, left, results, taken_up

from harness.events import EgressDecided
from harness.journal.reading import read, verify
from sandbox.owner import SESSION
from sandbox.workspace.accept import apply

pytestmark = pytest.mark.docker
SIZE = 200_000


async def usermode(tmp_path: Path, *argv: str, **environment: str) -> tuple[int | None, str, list[str]]:
    ours = {"USERMODE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "harness", *argv, env={**os.environ, **ours, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode().splitlines()


def killed_with_its_engine(session: str) -> int:
    """The engine keeps no container alive that it does not run itself: all of them end with SIGKILL."""
    client = docker.from_env()
    try:
        found = client.api.containers(filters={"label": f"{SESSION}={session}"})
        for container in found:
            client.api.kill(container["Id"])
        return len(found)
    finally:
        client.close()


async def test_an_engine_that_is_away_costs_one_line_and_what_it_took_along_is_told(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    script = commands("echo x >> ran; sleep 30; echo finished", "cat ran")
    directory = await left(tmp_path, script, "-w", str(tmp_path / "workspace"), after_s=0.5)
    assert await asyncio.to_thread(killed_with_its_engine, directory.name) == 1
    before = (directory / "journal.jsonl").read_bytes()
    away = f"unix://{tmp_path}/nobody.sock"
    code, out, err = await usermode(tmp_path, "resume", "last", DOCKER_HOST=away)
    assert (code, out, len(err)) == (6, "", 1)
    assert "engine" in err[0]
    assert (directory / "journal.jsonl").read_bytes() == before
    assert (await gone_on(tmp_path)).status == "done"
    found = taken_up(directory)
    assert (found.sandbox, [call.fate for call in found.calls]) == ("reopened", ["unknown"])
    assert "check before repeating" in results(directory)[0]
    assert results(directory)[1] == "x\n[exit code 0]"
    assert verify(directory).ok


@pytest.fixture
async def slow_server() -> AsyncIterator[tuple[int, list[int]]]:
    """Its port, and how many bytes it has sent to each who came."""
    sent: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(sent)
        sent.append(0)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE)
            while sent[number] < SIZE:
                writer.write(bytes(SIZE // 20))
                await writer.drain()
                sent[number] += SIZE // 20
                await asyncio.sleep(0.06)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], sent
    server.close()


@pytest.mark.parametrize(
    ("after", "after_s"), [("call_intent", 0.0), ("egress", 0.1), ("egress_closed", 0.0)]
)
async def test_a_download_that_lost_its_gate_fails_once_and_the_next_one_finds_another(
    tmp_path: Path, slow_server: tuple[int, list[int]], after: str, after_s: float
) -> None:
    port, sent = slow_server
    (tmp_path / "workspace").mkdir()
    (tmp_path / "policy.toml").write_text(
        f'extends = "strict"\n[network]\nallow = ["127.0.0.1:{port}"]\naddresses = ["127.0.0.0/8"]\n'
    )
    fetch = (
        "no_proxy= NO_PROXY= python3 -c 'import urllib.request as u; "
        f'd = u.urlopen("http://127.0.0.1:{port}/file").read(); assert len(d) == {SIZE}\''
    )
    script = commands(
        f"echo begun >> ran; {fetch} 2> /dev/null && echo got >> ran", f"{fetch} && echo second >> ran"
    )
    options = ("-p", str(tmp_path / "policy.toml"), "-w", str(tmp_path / "workspace"))
    directory = await left(tmp_path, script, *options, after=after, after_s=after_s)
    assert (await gone_on(tmp_path)).status == "done"
    assert taken_up(directory).sandbox == "attached"
    apply(directory)
    ran = (tmp_path / "workspace" / "ran").read_text().split()
    (call,) = taken_up(directory).calls or (None,)
    # The command was run once, if it had begun. It got all of it only if nobody died meanwhile.
    assert ran.count("begun") == (call is None or call.fate != "not_run")
    assert ran.count("got") <= (after == "egress_closed")
    assert (ran.count("second"), sent[-1]) == (1, SIZE)
    decided = [one.entry for one in read(directory) if isinstance(one.entry, EgressDecided)]
    assert {entry.decision for entry in decided} == {"allow"}
    assert len(decided) == len(sent)
    assert verify(directory).ok
