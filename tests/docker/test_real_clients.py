"""Real programs inside do real work through the gate: against servers on this machine, by name and TLS."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from internet import Internet, internet

from policies import load
from policies.schema import Network, RequestRule
from sandbox import Command, Completed, SandboxSpec, open_sandbox
from sandbox.egress import Closed, Decided, Gate
from sandbox.protocol import Sandbox

pytestmark = pytest.mark.docker

ARCHIVES, LIBRARY = "archives.test", "library.test"


@dataclass
class Session:
    box: Sandbox
    net: Internet
    told: list[Decided | Closed]
    looked_into: bool

    async def sh(self, text: str, timeout_s: float = 60) -> Completed:
        done = await self.box.run(Command(("bash", "-ec", text), timeout_s=timeout_s))
        assert done.exit_code == 0, (done.stdout + done.stderr).decode(errors="replace")
        return done


@pytest.fixture(params=["sealed", "looked into"])
async def session(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Session]:
    """A dev session that may reach two names; its TLS is passed on as it is, or looked into."""
    async with internet(tmp_path) as net:
        allow = tuple(f"{host}:{port}" for host in (ARCHIVES, LIBRARY) for port in (net.https, net.http))
        looked_into = request.param == "looked into"
        # On a port that an entry names, TLS is looked into where there is something to look for.
        rules = tuple(RequestRule(host=host, reason="only reading") for host in (ARCHIVES, LIBRARY))
        policy = load("dev").model_copy(
            update={
                "network": Network(
                    allow=allow, addresses=("127.0.0.1",), ca_file=net.ca_file,
                    intercept=looked_into, requests=rules if looked_into else (),
                )
            }
        )  # fmt: skip
        told: list[Decided | Closed] = []

        async def report(one: Decided | Closed) -> None:
            told.append(one)

        gate = Gate(policy, report=report, resolver=net.resolve)
        async with open_sandbox(SandboxSpec(policy=policy, gate=gate)) as box:
            yield Session(box, net, told, looked_into)


def wheel(site: Path, name: str) -> None:
    """An index of one package, as PEP 503 wants it."""
    files = {
        f"{name}/__init__.py": "ANSWER = 42\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.0.dist-info/RECORD": "",
    }
    index = site / "simple" / name.replace("_", "-")
    index.mkdir(parents=True)
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    (index / "index.html").write_text(f'<a href="{name}-1.0-py3-none-any.whl">{name}</a>')


def package(site: Path, base: str, name: str) -> None:
    """A registry of one package, as npm reads it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in {
            "package/package.json": json.dumps({"name": name, "version": "1.0.0", "main": "index.js"}),
            "package/index.js": "module.exports = 42;\n",
        }.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    data = buffer.getvalue()
    (site / f"{name}-1.0.0.tgz").write_bytes(data)
    dist = {"tarball": f"{base}/{name}-1.0.0.tgz", "shasum": hashlib.sha1(data).hexdigest()}
    versions = {"1.0.0": {"name": name, "version": "1.0.0", "main": "index.js", "dist": dist}}
    (site / name).write_text(
        json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": versions})
    )


def repository(site: Path) -> None:
    """A git repository that is served as plain files."""
    work, bare = site / "work", site / "project.git"
    clean = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*argv: str) -> None:
        subprocess.run(("git", *argv), check=True, capture_output=True, env=clean)

    git("init", "-q", "-b", "main", str(work))
    (work / "hello.txt").write_text("from the repository\n")
    git("-C", str(work), "add", ".")
    git("-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t.test", "commit", "-qm", "one")
    git("clone", "-q", "--bare", str(work), str(bare))
    git("-C", str(bare), "update-server-info")


async def debian(session: Session) -> None:
    """A repository of one package, which is built inside."""
    done = await session.sh(
        "cd /tmp && mkdir -p p/DEBIAN p/usr/share/greeting && echo hello > p/usr/share/greeting/text && "
        "printf 'Package: greeting\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: t <t@t.test>\\n"
        "Description: t\\n' > p/DEBIAN/control && dpkg-deb -b p greeting.deb >&2 && cat greeting.deb"
    )
    site = session.net.site(ARCHIVES) / "debian"
    site.mkdir()
    (site / "greeting.deb").write_bytes(done.stdout)
    digest = hashlib.sha256(done.stdout).hexdigest()
    (site / "Packages").write_text(
        "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@t.test>\nDescription: t\n"
        f"Filename: ./greeting.deb\nSize: {len(done.stdout)}\nSHA256: {digest}\n"
    )


SOCKET = """
import base64, os, socket, ssl, sys
host, port, secure = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "wss"
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
assert b" 200 " in s.recv(4096)
if secure:
    s = ssl.create_default_context().wrap_socket(s, server_hostname=host)
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(f"GET /chat HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nUpgrade: websocket\\r\\n"
          f"Connection: Upgrade\\r\\nSec-WebSocket-Key: {key}\\r\\n"
          "Sec-WebSocket-Version: 13\\r\\n\\r\\n".encode())
assert b" 101 " in s.recv(4096)
for word in (b"drawer", b"level"):
    s.sendall(bytes((0x81, 0x80 | len(word))) + bytes(4) + word)
    print(s.recv(4096)[2:].decode())
"""
NODE = """
const http = require('http'), tls = require('tls');
const [host, port] = process.argv.slice(2);
http.request({host: '127.0.0.1', port: 3128, method: 'CONNECT', path: `${host}:${port}`})
  .on('connect', (answer, socket) => {
    const secure = tls.connect({socket, servername: host}, () => {
      secure.write(`GET /hello.txt HTTP/1.1\\r\\nHost: ${host}:${port}\\r\\nConnection: close\\r\\n\\r\\n`);
    });
    let text = '';
    secure.on('data', data => text += data).on('end', () => console.log(text.split('\\r\\n\\r\\n')[1]));
  }).end();
"""


async def test_real_programs_do_real_work(session: Session):
    net = session.net
    site, library = net.site(ARCHIVES), net.site(LIBRARY)
    base, plain = f"https://{ARCHIVES}:{net.https}", f"http://{ARCHIVES}:{net.http}"
    (site / "hello.txt").write_text("hello by TLS")
    (library / "big").write_bytes(bytes(range(256)) * 40_000)
    wheel(site, "um_answer")
    package(library, f"https://{LIBRARY}:{net.https}", "um-answer")
    await asyncio.to_thread(repository, site)
    await debian(session)

    # curl: by TLS, in the clear, and by SOCKS with the name left to the gate
    for url in (f"{base}/hello.txt", f"{plain}/hello.txt"):
        assert (await session.sh(f"curl -sSf {url}")).stdout == b"hello by TLS"
    socks = "curl -sSf --noproxy '' --proxy socks5h://127.0.0.1:3128"
    assert (await session.sh(f"{socks} {base}/hello.txt")).stdout == b"hello by TLS"
    digest = hashlib.sha256((library / "big").read_bytes()).hexdigest()
    assert (
        digest.encode()
        in (await session.sh(f"curl -sSf https://{LIBRARY}:{net.https}/big | sha256sum")).stdout
    )

    # pip, from an index
    index = f"{base}/simple/"
    await session.sh(f"pip install -q --break-system-packages --user --no-deps --index-url {index} um_answer")
    assert (await session.sh("python3 -c 'import um_answer; print(um_answer.ANSWER)'")).stdout == b"42\n"

    # npm, from a registry
    await session.sh(
        f"cd /tmp && npm install --silent --registry https://{LIBRARY}:{net.https}/ um-answer", 120
    )
    assert (await session.sh("""cd /tmp && node -p "require('um-answer')" """)).stdout == b"42\n"

    # git, by https
    await session.sh(f"git clone -q {base}/project.git /workspace/project")
    assert (await session.sh("cat /workspace/project/hello.txt")).stdout == b"from the repository\n"

    # apt, as whoever we are
    places = "-o Dir::State=/tmp/apt/s -o Dir::Cache=/tmp/apt/c -o Dir::Etc=/tmp/apt/e -o Debug::NoLocking=1"
    await session.sh(
        "mkdir -p /tmp/apt/s/lists/partial /tmp/apt/c/archives/partial /tmp/apt/e /tmp/deb && cd /tmp/deb && "
        f"echo 'deb [trusted=yes] {plain}/debian ./' > /tmp/apt/e/sources.list && "
        f"apt-get -qq {places} update && apt-get -qq {places} download greeting && dpkg-deb -x gr*.deb out"
    )
    assert (await session.sh("cat /tmp/deb/out/usr/share/greeting/text")).stdout == b"hello\n"

    # websockets, in the clear and by TLS
    await session.box.write_file("/tmp/chat.py", SOCKET.encode())
    for kind, port in (("ws", net.http), ("wss", net.https)):
        done = await session.sh(f"python3 /tmp/chat.py {ARCHIVES} {port} {kind}")
        assert done.stdout == b"reward\nlevel\n"

    # a Python and a Node program
    program = f"import urllib.request as r; print(r.urlopen('{base}/hello.txt').read().decode())"
    assert (await session.sh(f'python3 -c "{program}"')).stdout == b"hello by TLS\n"
    await session.box.write_file("/tmp/fetch.js", NODE.encode())
    assert (await session.sh(f"node /tmp/fetch.js {ARCHIVES} {net.https}")).stdout == b"hello by TLS\n"

    # What is not listed stays out of reach, and every connection was recorded first, with its program.
    refused = await session.box.run(
        Command(("curl", "-sS", "-m", "10", f"https://elsewhere.test:{net.https}/"))
    )
    assert refused.exit_code != 0
    assert not [line for line in net.heard if "elsewhere" in line]
    decided = [one for one in session.told if isinstance(one, Decided)]
    programs = " ".join(one.attempt.origin.program for one in decided)
    if session.looked_into:
        assert {"https", "http"} <= {one.attempt.protocol for one in decided}
    assert all(name in programs for name in ("curl", "pip", "npm", "git", "apt", "python3", "node"))
    assert all(one.attempt.origin.call_id for one in decided)
