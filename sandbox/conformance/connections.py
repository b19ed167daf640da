"""Connections on the loopback inside, in both directions."""

from __future__ import annotations

import asyncio
import errno

from sandbox.conformance.asking import ALL_BYTES, ask, output, pattern, raises, same, scratch, shell, true
from sandbox.conformance.dialling import Door, all_of, connected, free_port, serving, sockets_of
from sandbox.conformance.registry import check
from sandbox.protocol import Connection, Sandbox

LARGE = 10_000_000


@check("connect.listen-echo", "a program inside dials, every byte arrives, and the answer goes back")
async def listen_echo(box: Sandbox) -> None:
    sockets, port = await sockets_of(box), free_port()
    await box.listen(port, serving(lambda heard: heard[::-1]))
    done = await box.run(shell(sockets.to(port), stdin=ALL_BYTES))
    same((done.exit_code, done.stdout, done.stderr), (0, ALL_BYTES[::-1], b""), "echo")


@check("connect.to-a-program", "the host reaches a program that listens inside, both ways")
async def to_a_program(box: Sandbox) -> None:
    sockets, port = await sockets_of(box), free_port()
    call = await box.start(shell(f"echo hello | {sockets.at(port)}"))
    connection = await connected(box, port)
    same(await all_of(connection), b"hello\n", "from inside")
    await connection.send(ALL_BYTES)
    await connection.end()
    done = await box.result(call)
    same((done.exit_code, done.stdout), (0, ALL_BYTES), "what the program heard")


@check("connect.large", "ten megabytes each way arrive exact, and far more than is held at once")
async def large(box: Sandbox) -> None:
    sockets, port, data = await sockets_of(box), free_port(), pattern(LARGE)
    heard: list[bytes] = []

    async def serve(connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.send(data))
            heard.append(await all_of(connection))

    await box.listen(port, serve)
    path = await scratch(box, "/workspace")
    await box.write_file(f"{path}/sent", data)
    await output(box, f"{sockets.to(port)} < {path}/sent > {path}/came")
    true(await box.read_file(f"{path}/came") == data, "what the program heard is not what was sent")
    await output(box, f"rm {path}/sent {path}/came")
    true(heard == [data], "what arrived is not what was sent")


@check("connect.half-close", "one direction ends and the other goes on")
async def half_close(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    call = await box.start(shell(f"printf question | {sockets.to(door.port)}"))
    connection = await door.next()
    same(await all_of(connection), b"question", "from inside")
    for part in (b"an ", b"answer"):
        await connection.send(part)
        await asyncio.sleep(0.1)
    await connection.end()
    same((await box.result(call)).stdout, b"an answer", "what came after the end of the question")


@check("connect.refused", "a port where nobody listens refuses, in both directions, at once")
async def refused(box: Sandbox) -> None:
    sockets, port = await sockets_of(box), free_port()
    with raises(ConnectionRefusedError):
        await box.connect(port)
    done = await box.run(shell(sockets.to(port)))
    true(done.exit_code != 0 and not done.timed_out, f"dialling nobody ended with {done.exit_code}")


@check("connect.port-taken", "a port that is taken cannot be listened on, by whomever it is taken")
async def port_taken(box: Sandbox) -> None:
    sockets, port = await sockets_of(box), free_port()
    await box.listen(port, serving(lambda heard: heard + b"!"))
    with raises(OSError, errno=errno.EADDRINUSE):
        await box.listen(port, serving(lambda heard: heard))
    same(await output(box, f"printf first | {sockets.to(port)}"), b"first!", "who listens")
    done = await box.run(shell(sockets.at(port)))
    true(done.exit_code != 0 and not done.timed_out, "a program took a port of the host's")
    other = free_port()
    call = await box.start(shell(f"echo mine | {sockets.at(other)}"))
    connection = await connected(box, other)
    same(await all_of(connection), b"mine\n", "the program that listens")
    connection.abort()
    await box.kill(call)


@check("connect.no-such-port", "a number that is no port is refused before it is asked for")
async def no_such_port(box: Sandbox) -> None:
    for port in (0, -1, 65_536):
        with raises(ValueError):
            await box.connect(port)
        with raises(ValueError):
            await box.listen(port, serving(lambda heard: heard))


@check("connect.stalled-reader", "a program that never reads holds up its own connection and nothing else")
async def stalled_reader(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    call = await box.start(shell(f"(sleep 60) | {sockets.to(door.port)} | sleep 60"))
    stalled = await door.next()
    flood = asyncio.create_task(stalled.send(bytes(40_000_000)))
    other = free_port()
    await box.listen(other, serving(lambda heard: heard.upper()))
    for _ in range(5):
        same(
            await output(box, f"printf through | {sockets.to(other)}"), b"THROUGH", "beside a full connection"
        )
    true(not flood.done(), "forty megabytes went to a program that does not read")
    stalled.abort()
    with raises(ConnectionError):
        await flood
    await box.kill(call)


@check("connect.unread-flood", "a program that floods a connection nobody reads holds up nothing else")
async def unread_flood(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    call = await box.start(shell(f"yes | {sockets.to(door.port)}"))
    flooded = await door.next()
    other = free_port()
    await box.listen(other, serving(lambda heard: heard.upper()))
    for _ in range(5):
        same(await output(box, f"printf through | {sockets.to(other)}"), b"THROUGH", "beside a flood")
    true(set(await flooded.receive()) == set(b"y\n"), "the flood itself")
    flooded.abort()
    await box.kill(call)


@check("connect.program-dies", "a program that is killed ends its connection, and the host hears of it")
async def program_dies(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    call = await box.start(shell(f"(echo here; sleep 60) | {sockets.to(door.port)}"))
    connection = await door.next()
    same(await connection.receive(), b"here\n", "from inside")
    await box.kill(call)
    try:
        same(await all_of(connection), b"", "after the program's end")
        for _ in range(1000):  # what is sent to nobody comes back as an error, if not the first time
            await connection.send(bytes(1000))
            await asyncio.sleep(0.005)
    except ConnectionError:
        return
    raise AssertionError("megabytes were sent to a program that was killed")


@check("connect.aborted", "a connection the host lets go of is broken inside, and both ways unusable here")
async def aborted(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    call = await box.start(shell(f"(sleep 60) | {sockets.to(door.port)}"))
    connection = await door.next()
    connection.abort()
    connection.abort()
    with raises(ConnectionError):
        await connection.receive()
    with raises(ConnectionError):
        await connection.send(b"x")
    await box.kill(call)
    same(await output(box, "echo fine"), b"fine\n", "afterwards")


@check("connect.origin", "the host learns which call dialled, with the program's words")
async def origin(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    calls = [await box.start(shell(f"sleep 20 | {sockets.to(door.port)}")) for _ in range(3)]
    origins = [(await door.next()).origin for _ in calls]
    same({one.call_id for one in origins}, set(calls), "calls that dialled")
    for one in origins:
        true(one.pid and one.pid > 1, f"pid {one.pid}")
        true(str(door.port) in one.program or len(one.program) == 256, f"program {one.program!r}")
    for call in calls:
        await box.kill(call)


@check("connect.origin-of-a-job", "a job that left its session counts for its call, also once that has ended")
async def origin_of_a_job(box: Sandbox) -> None:
    sockets, door = await sockets_of(box), await Door.at(box)
    path = await scratch(box)
    text = f"sleep 0.5; echo dialled > {path}/mark; sleep 20 | {sockets.to(door.port)}"
    call = await box.start(shell('setsid sh -c "$1" > /dev/null 2>&1 & echo begun', arguments=(text,)))
    same((await box.result(call)).stdout, b"begun\n", "the call itself")
    await ask(box, "true")  # a call of another's, after it
    same((await door.next()).origin.call_id, call, "the call of the job that dialled")
    same(await box.read_file(f"{path}/mark"), b"dialled\n", "the job went on after its call")
    await box.kill(call)


@check("connect.many", "twenty programs at once are each answered with their own")
async def many(box: Sandbox) -> None:
    sockets, port = await sockets_of(box), free_port()
    await box.listen(port, serving(lambda heard: heard * 2))
    each = f"for i in 0 1 2 3 4 5 6 7 8 9; do printf $1$i | {sockets.to(port)} > $2/$1$i & done; wait"
    path = await scratch(box)
    done = await asyncio.gather(*(ask(box, each, arguments=(f"n{k}-", path), timeout_s=80) for k in range(2)))
    same({one.exit_code for one in done}, {0}, "outcomes")
    for k in range(2):
        for i in range(10):
            same(await box.read_file(f"{path}/n{k}-{i}"), f"n{k}-{i}".encode() * 2, "one's answer")
