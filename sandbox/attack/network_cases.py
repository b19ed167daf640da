"""Attacks on the network boundary (N): whatever leaves would arrive at listeners of this machine alone.

Every address of the host gets a canary, TCP and UDP. A program inside sends a word to each; what counts is
which words arrive. Whether there is a way to anywhere else is asked of the routing table: nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.attack.case import Case, Program, Target
from sandbox.protocol import Command

WORD_S = 2.0


@dataclass(eq=False)
class Canary:
    """Listens on every address of this machine; `heard` says what arrived where."""

    places: list[tuple[str, int]] = field(default_factory=list)
    heard: dict[str, str] = field(default_factory=dict)

    def take(self, data: bytes, place: str) -> None:
        word = data[:64].decode("ascii", "replace").strip()
        self.heard.setdefault(word, place)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, canary: Canary, place: str) -> None:
        self.canary, self.place = canary, place

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.canary.take(data, self.place)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Canary]:
    canary = Canary()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for address in await asyncio.to_thread(_addresses):

            async def talk(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: str = address
            ) -> None:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(WORD_S):
                        canary.take(await reader.readline(), f"{at} (TCP)")
                writer.close()

            try:
                server = await asyncio.start_server(talk, address, 0)
                stack.push_async_callback(server.wait_closed)
                stack.callback(server.close)
                port = server.sockets[0].getsockname()[1]
                transport, _ = await loop.create_datagram_endpoint(
                    lambda at=address: _Datagrams(canary, f"{at} (UDP)"),  # type: ignore[misc]
                    local_addr=(address, port),
                )
                stack.callback(transport.close)
            except OSError:
                continue  # an address that went away, or its port taken for UDP
            canary.places.append((address, port))
        yield canary


def _addresses() -> list[str]:
    """This machine's own, from the kernel's tables."""
    found = {"127.0.0.1"}
    previous = ""
    for line in Path("/proc/net/fib_trie").read_text().splitlines():
        if "/32 host LOCAL" in line:
            found.add(previous.rsplit(" ", 1)[-1])
        previous = line
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            words = line.split()
            if words[3] != "20":  # link-local ones need an interface to be told
                found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0])))
    return sorted(found)


SEND = """
for address, port in json.loads(sys.argv[2]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as peer:
                peer.settimeout(1)
                peer.connect((address, port))
                peer.sendall(sys.argv[1].encode() + b"\\n")
        except OSError:
            pass
"""


async def arrives(target: Target) -> Sequence[str]:
    """To every address of the host, past every proxy setting: what the host hears."""
    async with listening() as canary:
        word = f"canary-{secrets.token_hex(8)}"
        arguments = (word, json.dumps(canary.places))
        await Program(SEND, arguments, timeout_s=60).within(target.box)
        await asyncio.sleep(0.2)
        return [f"the host heard it at {place}" for heard, place in canary.heard.items() if heard == word]


ROUTES = """
def routed(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.connect((address, 9))  # chooses a route and sends nothing
for address in sys.argv[1:]:
    tried(f"there is a way to {address}", routed, address)
"""


def routes(*addresses: str) -> Program:
    return Program(ROUTES, addresses)


RESOLVERS = Program(
    """
try:
    lines = open("/etc/resolv.conf").read().splitlines()
except OSError:
    lines = []
def routed(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.connect((address, 53))
for words in (line.split() for line in lines):
    if len(words) > 1 and words[0] == "nameserver":
        tried(f"a resolver can be reached at {words[1]}", routed, words[1])
for address in ("127.0.0.11", "127.0.0.53"):
    query = bytes.fromhex("000101000001000000000000") + b"\\x06canary\\x07invalid\\x00\\x00\\x01\\x00\\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(0.5)
        def ask():
            peer.connect((address, 53))
            peer.send(query)
            if not peer.recv(512):
                raise OSError
        tried(f"a resolver answers at {address}", ask)
"""
)

ENGINE_PORTS = Program(
    """
gateways = []
if os.path.exists("/proc/net/route"):
    for line in open("/proc/net/route").read().splitlines()[1:]:
        gateway = line.split()[2]
        if gateway != "00000000":
            gateways.append(socket.inet_ntoa(bytes.fromhex(gateway)[::-1]))
for host in ["127.0.0.1", *gateways]:
    for port in (2375, 2376, 2379, 5000, 10250):
        try:
            socket.create_connection((host, port), timeout=0.5).close()
            done.append(f"{host}:{port} answers")
        except OSError:
            pass
"""
)

SERVE = """
import os, re, socket, sys
served = socket.socket(socket.AF_INET)
served.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
served.bind(("0.0.0.0", 41234))
served.listen()
text = open("/proc/net/fib_trie").read() if os.path.exists("/proc/net/fib_trie") else ""
own = set(re.findall(r"-- ([0-9.]+)\\n +/32 host LOCAL", text)) or {"127.0.0.1"}
print(" ".join(sorted(own)), flush=True)
while True:
    peer, _ = served.accept()
    peer.sendall(sys.argv[1].encode())
    peer.close()
"""

FETCH = """
for address in sys.argv[2:]:
    try:
        with socket.create_connection((address, 41234), timeout=1) as peer:
            if peer.recv(64).decode() == sys.argv[1]:
                done.append(f"reached another one at {address}")
    except OSError:
        pass
"""


async def neighbours(target: Target) -> Sequence[str]:
    """A server in one sandbox, asked for from another under every address it has."""
    word = f"canary-{secrets.token_hex(8)}"
    async with target.fresh() as other:
        call = await other.start(Command(("python3", "-c", SERVE, word), cwd="/", timeout_s=60))
        try:
            async with asyncio.timeout(20):
                while not (told := (await other.progress(call)).stdout):  # noqa: ASYNC110 - it is asked
                    await asyncio.sleep(0.05)
            addresses = tuple(told.decode().split())
            return await Program(FETCH, (word, *addresses)).within(target.box)
        finally:
            await other.kill(call)


LISTENERS = Program(
    """
for name in ("tcp", "tcp6", "udp", "udp6"):
    try:
        lines = open(f"/proc/net/{name}").read().splitlines()[1:]
    except OSError:
        continue
    for line in lines:
        local, state = line.split()[1], line.split()[3]
        if state in ("0A", "07"):
            done.append(f"something listens on {name} port {int(local.split(':')[1], 16)}")
"""
)

CASES = (
    Case("A08", "ports of engines and clusters", ENGINE_PORTS),
    Case("N01", "name resolution", RESOLVERS),
    Case("N03", "connections past every proxy setting", arrives),
    Case(
        "N04",
        "a way to anywhere, IPv4 and IPv6",
        routes("198.51.100.1", "224.0.0.251", "2001:db8::1", "ff02::fb"),
    ),
    Case("N05", "the host's private networks", routes("172.17.0.1", "10.0.0.1", "192.168.0.1")),
    Case("N06", "other sessions", neighbours),
    Case(
        "N07",
        "cloud metadata services",
        routes("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"),
    ),
    Case("N21", "control sockets in reach", LISTENERS),
)
