"""A download through the gate: a real server, a program inside that fetches, a gate that dies at a boundary.

Nobody decides here but the session's own gate, and what it carries goes over real sockets. Where the
sandbox in memory comes in is the loopback inside: that is where the gate listens, as in a container.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from boundaries import Died, Mortal

from harness.events import EgressClosed, EgressDecided
from policies.schema import Network
from sandbox.egress import environment, peers

PIECES = tuple(bytes([letter]) * 700 for letter in b"abc")
BODY = b"".join(PIECES)
APART_S = 0.001
"""Between two pieces, so that they come as two."""
AGAIN_S = 0.002
CONNECT = peers.connect
DIALLING = "before dialling"


class Mirror(ThreadingHTTPServer):
    """Serves every path, in pieces, and counts."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked = Counter()
        """Requests that reached it, by path."""
        self._names = itertools.count()

    @property
    def port(self):
        return self.server_address[1]

    @property
    def network(self):
        return Network(allow=(f"127.0.0.1:{self.port}",), addresses=("127.0.0.0/8",))

    def new_path(self):
        """One that nobody asked for yet."""
        return f"/{next(self._names)}"

    def handle_error(self, request, client_address):
        pass  # Whoever asked has died.


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked[self.path] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(piece)
            time.sleep(APART_S)

    def log_message(self, format, *args):
        pass


@contextmanager
def mirrored():
    """One that serves from a thread of its own; the block's end stops both."""
    mirror = Mirror()
    thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        thread.join()
        mirror.server_close()


def fetching(url, network, ran):
    """`fetch NAME` for the inside: as long as it is cut short it tries again, as a package manager does."""

    async def fetch(process):
        name = process.argv[1]
        while True:
            try:
                status, body = await _get(network().dial(process, environment.PORT), url)
            except ConnectionError:
                await asyncio.sleep(AGAIN_S)
                continue
            if status != 200 or body != BODY:
                await process.err(f"fetch: {status}, {len(body)} bytes\n")
                return 22
            ran[name] = ran.get(name, 0) + 1
            await process.out(f"{name} is there\n")
            return 0

    return fetch


async def _get(socket, url):
    """A whole response, or ConnectionError."""
    try:
        host = url.split("/")[2]
        await socket.write(f"GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said:
            said += await _more(socket)
        head, _, body = said.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += await _more(socket)
        return int(head.split()[1]), body
    finally:
        socket.close()


async def _more(socket):
    if not (data := await socket.read(65_536)):
        raise ConnectionAbortedError("cut short")
    return data


@asynccontextmanager
async def let_out(box, gate, life, die):
    """The gate at the loopback inside, for as long as the block lasts; `die` when it ends its harness."""

    async def serve(connection):
        try:
            await gate.serve(Mortal(connection, life, ("receive", "send"), "inside "))
        except* Died:
            connection.abort()
            die()

    if gate is not None:
        await box.listen(gate.port, serve)
    try:
        yield
    finally:
        # Its connections are the harness's: they end with it, however it ends.
        await box.network.close()


async def mortal_connect(life, *where):
    """`peers.connect`, and what it returns, with the boundaries of a harness."""
    life.step(DIALLING)
    outside = await CONNECT(*where)
    try:
        life.step("after dialling")
    except Died:
        outside.abort()
        raise
    return Mortal(outside, life, ("receive", "send"), "outside ")


def check_downloads(dialled, asked, records):
    """Nothing was dialled that was not in the journal before, nor was the server asked for more."""
    entries = [record.entry for record in records]
    decided = [one for one in entries if isinstance(one, EgressDecided)]
    assert all(one.decision == "allow" for one in decided), decided
    assert asked <= dialled <= len(decided)
    # None is closed that was not let through, nor twice; those of a harness that died are not closed at all.
    open_now = Counter()
    for one in entries:
        if isinstance(one, EgressDecided):
            open_now[one.connection] += 1
        elif isinstance(one, EgressClosed):
            open_now[one.connection] -= 1
            assert open_now[one.connection] >= 0, one
