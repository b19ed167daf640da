"""The exec contract: what a command prints, and what becomes of too much of it."""

from __future__ import annotations

import asyncio

from sandbox.conformance.asking import ALL_BYTES, ask, output, pattern, same, scratch, short, true
from sandbox.conformance.registry import check
from sandbox.protocol import Command, Completed, Sandbox


async def print_file(box: Sandbox, data: bytes, output_bytes: int, to: str = "") -> Completed:
    """A command that prints these bytes, and no more is kept than said."""
    path = f"{await scratch(box)}/data"
    await box.write_file(path, data)
    return await ask(box, f"cat {path} {to}", output_bytes=output_bytes)


@check("output.separate", "standard output and standard error are separate, each in its order")
async def separate(box: Sandbox) -> None:
    done = await ask(box, "echo o1; echo e1 >&2; echo o2; echo e2 >&2")
    same((done.stdout, done.stderr), (b"o1\no2\n", b"e1\ne2\n"), "streams")
    same((done.stdout_total, done.stderr_total), (6, 6), "totals")


@check("output.every-byte", "all 256 byte values come back on both streams")
async def every_byte(box: Sandbox) -> None:
    path = f"{await scratch(box)}/bytes"
    await box.write_file(path, ALL_BYTES)
    done = await ask(box, f"cat {path}; cat {path} >&2")
    same((done.stdout, done.stderr), (ALL_BYTES, ALL_BYTES), "streams")


@check("output.not-utf8", "bytes that are no text are not repaired")
async def not_utf8(box: Sandbox) -> None:
    same(await output(box, r"printf 'a\377\376\200b\303'"), b"a\xff\xfe\x80b\xc3", "output")


@check("output.as-written", "no newline is added, none is removed, nothing is nothing")
async def as_written(box: Sandbox) -> None:
    for text, expected in (
        ("printf x", b"x"),
        ("printf 'x\\n\\n'", b"x\n\n"),
        (":", b""),
        ("printf 'a\\r\\n'", b"a\r\n"),
    ):
        same(await output(box, text), expected, text)


@check("output.at-the-limit", "output of exactly `output_bytes` is whole")
async def at_the_limit(box: Sandbox) -> None:
    data = pattern(10_000)
    done = await print_file(box, data, 10_000)
    true(done.stdout == data, f"kept {short(done.stdout)}")
    same((done.truncated, done.stdout_total, dict(done.spill)), (False, 10_000, {}), "marks")


@check("output.one-more", "one byte more than `output_bytes`: half head, half tail, the total exact")
async def one_more(box: Sandbox) -> None:
    data = pattern(10_001)
    done = await print_file(box, data, 10_000)
    true(done.stdout == data[:5000] + data[-5000:], f"kept {short(done.stdout)}")
    same((done.truncated, done.stdout_total), (True, 10_001), "marks")


@check("output.far-beyond", "far beyond `output_bytes` head and tail are exact and the total counts it all")
async def far_beyond(box: Sandbox) -> None:
    data = pattern(3_000_000)
    done = await print_file(box, data, 4096)
    true(done.stdout == data[:2048] + data[-2048:], f"kept {short(done.stdout)}")
    same((done.truncated, done.stdout_total), (True, 3_000_000), "marks")


@check("output.stderr-limit", "standard error has a limit, a total and a spill of its own")
async def stderr_limit(box: Sandbox) -> None:
    data = pattern(50_000)
    done = await print_file(box, data, 4096, ">&2")
    true(done.stderr == data[:2048] + data[-2048:], f"kept {short(done.stderr)}")
    same((done.stdout, done.stdout_total, done.stderr_total, done.truncated), (b"", 0, 50_000, True), "marks")
    same(set(done.spill), {"stderr"}, "spilled streams")
    true(await box.read_file(done.spill["stderr"]) == data, "the spill is not what was written")


@check("output.spill", "what did not fit can be read, whole and exact, from a file inside the sandbox")
async def spill(box: Sandbox) -> None:
    data = pattern(1_234_567)
    done = await print_file(box, data, 1000)
    same(set(done.spill), {"stdout"}, "spilled streams")
    path = done.spill["stdout"]
    true(await box.read_file(path) == data, "the spill is not what was written")
    same(
        await box.read_file(path, offset=1_000_000, limit=20),
        data[1_000_000:1_000_020],
        "a window of the spill",
    )
    same((await output(box, f"wc -c < {path}")).strip(), b"1234567", "its size as a command sees it")


@check(
    "output.spill-bounded",
    "a spill ends at the policy's limit and is then the exact beginning; the total goes on",
)
async def spill_bounded(box: Sandbox) -> None:
    size = 40_000_000
    done = await ask(box, f"yes abcdefg | head -c {size}", output_bytes=4096)
    same(done.stdout_total, size, "total")
    same(done.stdout, (b"abcdefg\n" * 512), "head and tail")
    path = done.spill["stdout"]
    kept = (await box.stat(path)).size
    true(0 < kept <= size, f"spill of {kept} bytes")
    same(
        await box.read_file(path, offset=kept - kept % 8 - 16, limit=16), b"abcdefg\n" * 2, "the spill's end"
    )


@check("output.both-flood", "a flood on both streams at once neither deadlocks nor mixes")
async def both_flood(box: Sandbox) -> None:
    done = await ask(
        box,
        "yes out | head -c 4000000 & yes err | head -c 4000000 >&2; wait",
        output_bytes=1000,
        timeout_s=60,
    )
    same((done.exit_code, done.timed_out), (0, False), "outcome")
    same((done.stdout_total, done.stderr_total), (4_000_000, 4_000_000), "totals")
    same((done.stdout, done.stderr), (b"out\n" * 250, b"err\n" * 250), "what was kept")


@check("output.one-long-line", "sixteen mebibytes without a newline are counted like any other")
async def one_long_line(box: Sandbox) -> None:
    done = await ask(box, "dd if=/dev/zero bs=65536 count=256 2>/dev/null", output_bytes=100)
    same((done.stdout_total, done.stdout), (16 << 20, bytes(100)), "output")


@check("output.endless", "a command that prints without end is ended by its timeout, its output counted")
async def endless(box: Sandbox) -> None:
    done = await ask(box, "yes", output_bytes=1000, timeout_s=1)
    same((done.timed_out, done.stdout), (True, b"y\n" * 500), "outcome")
    true(done.stdout_total > 65_536, f"total {done.stdout_total}")


@check("output.closed-early", "a command that closes its output goes on, and ends when it ends")
async def closed_early(box: Sandbox) -> None:
    done = await ask(box, "echo before; exec >&- 2>&-; sleep 0.4; exit 5")
    same((done.exit_code, done.stdout), (5, b"before\n"), "outcome")
    true(done.duration_s >= 0.4, "it was taken for ended when its output closed")


@check("output.last-words", "what is written just before the end is never lost")
async def last_words(box: Sandbox) -> None:
    done = await asyncio.gather(
        *(
            box.run(Command(("sh", "-c", "printf start; head -c 50000 /dev/zero; printf end")))
            for _ in range(16)
        )
    )
    same({len(one.stdout) for one in done}, {50_008}, "lengths")
    same({one.stdout[-3:] for one in done}, {b"end"}, "endings")


@check("output.after-a-flood", "after a flood the sandbox answers as before")
async def after_a_flood(box: Sandbox) -> None:
    await asyncio.gather(*(ask(box, "yes | head -c 16000000", output_bytes=100) for _ in range(4)))
    same(await output(box, "echo fine"), b"fine\n", "output")
    same(dict(await box.jobs()), {}, "processes left")
