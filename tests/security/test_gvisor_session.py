"""A whole session on gVisor from the command line: files, the way out, a question, and the review of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_user import CliUser
from test_approvals_unattended import FETCH, Upstream

from harness.events import CallOutcome, EgressDecided, SessionStarted
from harness.journal.reading import read
from sandbox.engine import Engine

pytestmark = pytest.mark.docker


async def _runtimes() -> set[str]:
    engine = await Engine.connect()
    try:
        return set((await engine.info())["Runtimes"])
    finally:
        await engine.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.server.shutdown()
    one.server.server_close()


def test_the_whole_path_works_on_gvisor_with_its_way_out(tmp_path: Path, upstream: Upstream) -> None:
    if "runsc" not in asyncio.run(_runtimes()):
        pytest.skip("this engine has no runtime runsc (gVisor): make engine GVISOR=1")
    user = CliUser(tmp_path)
    policy = tmp_path / "mine.toml"
    policy.write_text(
        f'extends = "strict"\n[network]\nallow = ["127.0.0.1:{upstream.port}"]\naddresses = ["127.0.0.0/8"]\n'
        '[container]\nrequire_runtime = "runsc"\n'
    )
    fetch = FETCH.format(port=upstream.port)
    calls = [
        {"name": "bash", "arguments": {"command": "uname -r; id -u"}},
        {"name": "write", "arguments": {"path": "fetch.py", "content": fetch}},
        {"name": "bash", "arguments": {"command": "python3 fetch.py; python3 -c 'print(6 * 7)'"}},
        {"name": "sudo", "arguments": {"reason": "More room.", "limits": {"memory_mb": 4096}}},
        {"name": "read", "arguments": {"path": "/workspace/fetch.py"}},
    ]
    replies = [*({"calls": [call]} for call in calls), {"text": "Done."}]
    user.script.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    done = user.usermode(
        "run", "x", "--runtime", "runsc", "--policy", str(policy), "--model", f"scripted:{user.script}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [record.entry for record in read(user.journal.parent)]
    (started,) = (entry for entry in entries if isinstance(entry, SessionStarted))
    assert started.runtime == "runsc"
    where, _, fetched, more, seen = (entry.result for entry in entries if isinstance(entry, CallOutcome))
    assert os.uname().release not in where.content
    assert where.content.splitlines()[1] != "0"
    assert fetched.content.startswith("200\n42\n")
    assert upstream.reached == ["/?query=canary-in-a-query"]
    assert [entry.decision for entry in entries if isinstance(entry, EgressDecided)] == ["allow"]
    assert (more.error, "gVisor" in more.content) == ("bad_arguments", True)
    assert "canary-in-a-query" in seen.content
    assert "+import http.client" in user.looks("diff", "last").stdout
    # The same policy on the other runtime is refused, and nothing begins.
    refused = user.usermode(
        "run", "x", "--runtime", "runc", "--policy", str(policy), "--model", f"scripted:{user.script}"
    )
    assert refused.returncode == 6
    assert "runsc" in refused.stderr + refused.stdout
