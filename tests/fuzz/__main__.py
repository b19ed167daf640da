"""`make fuzz`: both ends of the wire against hostile bytes, a minute each unless told otherwise.

python -m tests.fuzz [SECONDS] [SEED]
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from sandbox import Command, open_sandbox
from sandbox.errors import WireError
from sandbox.protocol import Connection
from sandbox.wire.frames import CONN_OURS, Frame, Parser, Reply, Request, frame
from sandbox.wire.payloads import Facts, Opened, Result, decode_calls, decode_count
from sandbox.wire.streams import Streams
from tests.images.sanitized import DEV, compile_all, link_fuzzer

NONCE = b"0123456789abcdef"
EPOCH = 0x5EED


def hostile_stream(chaos: random.Random) -> bytes:
    """Sound frames with one of their bytes changed, or cut, or none at all."""
    sound = b"".join(
        frame(EPOCH, chaos.choice(list(Reply)), chaos.getrandbits(64), chaos.randbytes(chaos.randrange(200)))
        for _ in range(chaos.randrange(1, 6))
    )
    damaged = bytearray(sound)
    for _ in range(chaos.randrange(3)):
        damaged[chaos.randrange(len(damaged))] = chaos.randrange(256)
    return bytes(damaged[: chaos.randrange(len(damaged) + 1)]) if chaos.random() < 0.3 else bytes(damaged)


def fuzz_the_host(seconds: float, seed: int) -> int:
    """Anything but a frame or a WireError is a traceback. Returns how many inputs there were."""
    chaos = random.Random(seed)
    inputs = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        inputs += 1
        parser = Parser(EPOCH, NONCE)
        stream = chaos.randbytes(chaos.randrange(40)) + NONCE + hostile_stream(chaos)
        try:
            for at in range(0, len(stream), step := chaos.randrange(1, 400)):
                parser.feed(stream[at : at + step])
        except WireError:
            pass
        for decode in (Result.decode, Facts.decode_all, decode_calls, Opened.decode, decode_count):
            try:
                decode(chaos.randbytes(chaos.randrange(200)))
            except WireError:
                continue
    return inputs


class Nowhere:
    """A channel whose other end is this program; LISTEN is answered at once."""

    epoch = EPOCH
    streams: Streams | None = None

    async def ask(self, kind: Request, payload: bytes) -> bytes:
        return b""

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def send(
        self, kind: Request, number: int, payload: bytes = b"", *, flag: int = 0, aux: int = 0
    ) -> None: ...

    def send_raw(self, frames: bytes) -> None: ...


async def converse(connection: Connection) -> None:
    try:
        while data := await connection.receive():
            await connection.send(data)
    except ConnectionError:
        return


def hostile_word(chaos: random.Random) -> Frame:
    kind = chaos.choice(
        [Reply.OPENED, Reply.STREAM_DATA, Reply.STREAM_DATA, Reply.STREAM_TAKEN, Reply.STREAM_BROKEN]
    )
    number = CONN_OURS + chaos.randrange(4) if chaos.random() < 0.9 else chaos.getrandbits(64)
    length = {Reply.OPENED: 16 + chaos.randrange(40), Reply.STREAM_TAKEN: 8, Reply.STREAM_BROKEN: 4}.get(kind)
    payload = chaos.randbytes(chaos.randrange(65_536) if length is None else length)
    if kind == Reply.OPENED and chaos.random() < 0.9:  # a port somebody listens on, a pid that may be
        payload = b"\x50\0\0\0" + payload[4:7] + b"\0" + payload[8:]
    payload = payload[: chaos.randrange(len(payload) + 1)] if chaos.random() < 0.05 else payload
    return Frame(kind, chaos.choice((0, 0, 0, 2, 255)), number, payload)


async def fuzz_connections(seconds: float, seed: int) -> int:
    """Whatever init says of connections: a WireError or nothing, and nothing that goes on for ever."""
    chaos = random.Random(seed)
    inputs = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        streams = Streams(Nowhere())  # type: ignore[arg-type]
        await streams.listen(80, converse)
        try:
            for _ in range(chaos.randrange(40)):
                inputs += 1
                streams.heard(hostile_word(chaos))
                await asyncio.sleep(0)
        except WireError:
            pass
        async with asyncio.timeout(5):
            await streams.close()
    return inputs


async def fuzz_init(seconds: float, seed: int) -> str:
    async with open_sandbox(DEV) as box:
        await compile_all(box)
        await link_fuzzer(box)
        run = Command(("/tmp/fuzz", str(seconds), str(seed)), cwd="/", timeout_s=seconds + 60)
        done = await box.run(run)
    if done.exit_code:
        sys.exit(done.stderr.decode(errors="backslashreplace"))
    return done.stdout.decode()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}; three parts, {seconds:.0f} s each", flush=True)
    print("host: what init sends, parsed … ", end="", flush=True)
    print(f"{fuzz_the_host(seconds, seed):,} inputs, no fault", flush=True)
    print("connections: what init says of them … ", end="", flush=True)
    print(f"{asyncio.run(fuzz_connections(seconds, seed)):,} inputs, no fault", flush=True)
    print("init: built with sanitizers, then fed … ", end="", flush=True)
    print(asyncio.run(fuzz_init(seconds, seed)), end="")


if __name__ == "__main__":
    main()
