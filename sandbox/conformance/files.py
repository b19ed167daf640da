"""The file contract: what is read and written, and whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib

from sandbox.conformance.asking import ALL_BYTES, all_raise, ask, output, pattern, raises, same, scratch, true
from sandbox.conformance.registry import check
from sandbox.protocol import Command, Sandbox

ODD_NAMES = (
    *("plain", "with space", " lead", "trail ", "-dash", "--", "new\nline", "tab\t", "quote'", 'double"'),
    *(
        "back\\slash",
        "star*",
        "~",
        "$HOME",
        "ünïcödé",
        "日本語",
        "\U0001f600",
        "not\udcffutf8",
        ".hidden",
        "a" * 255,
    ),
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@check("files.round-trip", "what is written is read back exactly, from nothing to ten mebibytes")
async def round_trip(box: Sandbox) -> None:
    there = await scratch(box)
    for data in (
        b"",
        b"\0",
        ALL_BYTES,
        pattern(65_536),
        pattern(65_537),
        pattern(1 << 20),
        pattern(10 << 20),
    ):
        await box.write_file(f"{there}/data", data)
        true(await box.read_file(f"{there}/data") == data, f"{len(data)} bytes did not come back")
        same((await box.stat(f"{there}/data")).size, len(data), "size")


@check("files.window", "offset and limit select a stretch; past the end there is nothing")
async def window(box: Sandbox) -> None:
    path, data = f"{await scratch(box)}/data", pattern(200_000)
    await box.write_file(path, data)
    for offset, limit in (
        (0, 10),
        (5, None),
        (100_000, 70_000),
        (199_990, 50),
        (200_000, 5),
        (1 << 40, None),
        (7, 0),
    ):
        end = None if limit is None else offset + limit
        true(await box.read_file(path, offset, limit) == data[offset:end], f"offset {offset}, limit {limit}")


@check("files.odd-names", "names may hold spaces, newlines, dashes, quotes, and bytes that are no text")
async def odd_names(box: Sandbox) -> None:
    there = await scratch(box)
    for name in ODD_NAMES:
        await box.write_file(f"{there}/{name}", name.encode(errors="surrogateescape"))
    for name in ODD_NAMES:
        same(await box.read_file(f"{there}/{name}"), name.encode(errors="surrogateescape"), name)
    same(
        {entry.path for entry in await box.list_dir(there)},
        {f"{there}/{name}" for name in ODD_NAMES},
        "listing",
    )


@check("files.shared-view", "commands see what was written, and what commands write is read")
async def shared_view(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/from-outside", b"outside\n")
    same(await output(box, "cat from-outside; echo inside > from-inside", cwd=there), b"outside\n", "output")
    same(await box.read_file(f"{there}/from-inside"), b"inside\n", "content")


@check("files.owner", "files belong to the user commands run as, who may change and remove them")
async def owner(box: Sandbox) -> None:
    there = await scratch(box, "/workspace")
    await box.write_file(f"{there}/a/b/file", b"x", parents=True)
    text = "for n in a a/b a/b/file; do test -O $n || exit 1; done; echo x >> $n; rm -r a && echo all"
    same(await output(box, text, cwd=there), b"all\n", "what commands may do")


@check("files.mode-default", "a new file has mode 0644, or the mode that was given")
async def mode_default(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/default", b"")
    same((await box.stat(f"{there}/default")).mode, 0o644, "default mode")
    for mode in (0o600, 0o755, 0o444, 0o777):
        await box.write_file(f"{there}/{mode:o}", b"", mode=mode)
        same((await box.stat(f"{there}/{mode:o}")).mode, mode, "given mode")


@check("files.mode-kept", "replacing a file keeps its mode, or gives it the mode that was given")
async def mode_kept(box: Sandbox) -> None:
    path = f"{await scratch(box)}/tool"
    await box.write_file(path, b"one", mode=0o750)
    await box.write_file(path, b"two")
    same(((await box.stat(path)).mode, await box.read_file(path)), (0o750, b"two"), "kept")
    await box.write_file(path, b"three", mode=0o600)
    same((await box.stat(path)).mode, 0o600, "given")


@check("files.atomic", "a reader sees the old content or the new, never a part and never nothing")
async def atomic(box: Sandbox) -> None:
    path = f"{await scratch(box)}/data"
    versions = [bytes([65 + number]) * (300_000 + number) for number in range(6)]
    await box.write_file(path, versions[0])
    written = asyncio.Event()

    async def write() -> None:
        for version in versions[1:] * 3:
            await box.write_file(path, version)
        written.set()

    async def read() -> None:
        while not written.is_set():
            true(await box.read_file(path) in versions, "a reader saw a part")

    async def count() -> None:
        while not written.is_set():
            found = int((await output(box, f"cat {path} | wc -c")).strip())
            true(found in {len(version) for version in versions}, f"a command saw {found} bytes")

    await asyncio.gather(write(), read(), read(), count())


@check("files.no-litter", "neither a write nor a refused one leaves anything beside the file")
async def no_litter(box: Sandbox) -> None:
    there = await scratch(box)
    for number in range(5):
        await box.write_file(f"{there}/file", pattern(100_000 * number))
    with raises(FileExistsError):
        await box.write_file(f"{there}/file", pattern(100_000), expect=digest(b"another"))
    with raises(IsADirectoryError):
        await box.write_file(there, pattern(100_000))
    same([entry.path for entry in await box.list_dir(there)], [f"{there}/file"], "entries")


@check("files.other-names", "a write replaces one name; another hard link keeps the old content")
async def other_names(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/a", b"old")
    await output(box, "ln a b", cwd=there)
    await box.write_file(f"{there}/a", b"new")
    same((await box.read_file(f"{there}/a"), await box.read_file(f"{there}/b")), (b"new", b"old"), "contents")


@check("files.expect-match", "a write that names the present content's digest takes place")
async def expect_match(box: Sandbox) -> None:
    path, data = f"{await scratch(box)}/data", pattern(150_000)
    await box.write_file(path, data)
    await box.write_file(path, b"next", expect=digest(data))
    await box.write_file(path, b"last", expect=digest(b"next"))
    same(await box.read_file(path), b"last", "content")


@check("files.expect-differs", "a write that names another digest is a FileExistsError and changes nothing")
async def expect_differs(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/data", b"present")
    with raises(FileExistsError):
        await box.write_file(f"{there}/data", b"next", expect=digest(b"remembered"))
    same(await box.read_file(f"{there}/data"), b"present", "content")
    with raises(FileExistsError):
        await box.write_file(f"{there}/missing", b"next", expect=digest(b"remembered"))
    same([entry.path for entry in await box.list_dir(there)], [f"{there}/data"], "entries")


@check("files.expect-nothing", "a write that expects nothing makes a new file, and never replaces one")
async def expect_nothing(box: Sandbox) -> None:
    path = f"{await scratch(box)}/data"
    await box.write_file(path, b"first", expect="")
    with raises(FileExistsError):
        await box.write_file(path, b"second", expect="")
    same(await box.read_file(path), b"first", "content")


@check("files.expect-race", "of many who expect nothing at the same place exactly one writes")
async def expect_race(box: Sandbox) -> None:
    path = f"{await scratch(box)}/data"
    outcomes = await asyncio.gather(
        *(box.write_file(path, b"%d" % number, expect="") for number in range(12)), return_exceptions=True
    )
    winners = [number for number, outcome in enumerate(outcomes) if outcome is None]
    true(len(winners) == 1, f"{len(winners)} writers won")
    true(all(isinstance(one, FileExistsError) for one in outcomes if one is not None), f"outcomes {outcomes}")
    same(await box.read_file(path), b"%d" % winners[0], "content")


@check("files.parents", "missing directories are made when asked for, and are an error when not")
async def parents(box: Sandbox) -> None:
    there = await scratch(box)
    with raises(FileNotFoundError):
        await box.write_file(f"{there}/a/b/c", b"x")
    await box.write_file(f"{there}/a/b/c", b"x", parents=True)
    await box.write_file(f"{there}/a/b/d", b"y", parents=True)
    same(await output(box, "cat a/b/c a/b/d", cwd=there), b"xy", "contents")


@check("files.many-at-once", "sixty-four reads and writes at once all succeed")
async def many_at_once(box: Sandbox) -> None:
    there = await scratch(box)
    data = [pattern(20_000 + number) for number in range(64)]
    await asyncio.gather(*(box.write_file(f"{there}/{number}", data[number]) for number in range(64)))
    found = await asyncio.gather(*(box.read_file(f"{there}/{number}") for number in range(64)))
    true(found == data, "not all came back right")


@check("files.during-commands", "files are read and written while commands run and flood")
async def during_commands(box: Sandbox) -> None:
    there = await scratch(box)
    flood = asyncio.create_task(ask(box, "yes | head -c 30000000", output_bytes=100))
    for number in range(30):
        await box.write_file(f"{there}/{number}", pattern(3000))
        true(await box.read_file(f"{there}/{number}") == pattern(3000), "not what was written")
    same((await flood).stdout_total, 30_000_000, "the flood's total")


@check("files.bad-path", "a path that is relative or holds a NUL byte is a ValueError")
async def bad_path(box: Sandbox) -> None:
    for path in ("relative", "./here", "../up", "", "/tmp/a\0b"):
        await all_raise(
            ValueError, box.read_file(path), box.write_file(path, b""), box.stat(path), box.list_dir(path)
        )


@check("files.too-large", "a sparse giant is refused at once, and a stretch of it can be read")
async def too_large(box: Sandbox) -> None:
    path = f"{await scratch(box)}/giant"
    done = await box.run(
        Command(("dd", "if=/dev/null", f"of={path}", "bs=1048576", "seek=1048576", "count=0"))
    )
    same(done.exit_code, 0, "dd")
    same((await box.stat(path)).size, 1 << 40, "size")
    with raises(OSError, errno=errno.EFBIG):
        await box.read_file(path)
    same(await box.read_file(path, offset=1 << 39, limit=100), bytes(100), "a stretch")
