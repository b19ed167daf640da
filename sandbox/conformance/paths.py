"""The file contract: what a path leads to, and what it must not lead to."""

from __future__ import annotations

import asyncio
import errno
import time

from sandbox.conformance.asking import PATIENCE_S, all_raise, ask, output, raises, same, scratch, true
from sandbox.conformance.registry import check
from sandbox.protocol import Sandbox


@check("paths.missing", "what does not exist is a FileNotFoundError")
async def missing(box: Sandbox) -> None:
    there = await scratch(box)
    for path in (f"{there}/nothing", f"{there}/no/thing"):
        await all_raise(FileNotFoundError, box.read_file(path), box.stat(path), box.list_dir(path))


@check("paths.directory", "a directory is read and written as an IsADirectoryError")
async def directory(box: Sandbox) -> None:
    there = await scratch(box)
    with raises(IsADirectoryError):
        await box.read_file(there)
    with raises(IsADirectoryError):
        await box.write_file(there, b"x")
    same((await box.stat(there)).kind, "directory", "kind")


@check("paths.not-a-directory", "a file in the middle of a path, or listed, is a NotADirectoryError")
async def not_a_directory(box: Sandbox) -> None:
    path = f"{await scratch(box)}/file"
    await box.write_file(path, b"x")
    await all_raise(
        NotADirectoryError,
        box.list_dir(path),
        box.read_file(f"{path}/x"),
        box.stat(f"{path}/x"),
        box.write_file(f"{path}/x", b""),
        box.write_file(f"{path}/x/y", b"", parents=True),
    )


@check("paths.permission", "files are read and written with the rights of the user commands run as")
async def permission(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/secret", b"x", mode=0o000)
    await box.write_file(f"{there}/locked/file", b"x", parents=True)
    await output(box, "chmod 000 locked", cwd=there)
    if (await ask(box, "test -r secret", cwd=there)).exit_code == 0:
        same(await box.read_file(f"{there}/secret"), b"x", "content, for a user whom modes do not bind")
        return
    await all_raise(
        PermissionError,
        box.read_file(f"{there}/secret"),
        box.read_file(f"{there}/locked/file"),
        box.stat(f"{there}/locked/file"),
        box.list_dir(f"{there}/locked"),
        box.write_file(f"{there}/locked/new", b""),
    )


@check("paths.read-only", "a file that may not be written is not replaced, nor is one made where none may be")
async def read_only(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/fixed", b"old", mode=0o444)
    await output(box, "mkdir shut; chmod 555 shut", cwd=there)
    if (await ask(box, "test -w fixed", cwd=there)).exit_code == 0:
        return  # A user whom modes do not bind.
    with raises(PermissionError):
        await box.write_file(f"{there}/fixed", b"new")
    same(await box.read_file(f"{there}/fixed"), b"old", "content")
    with raises(PermissionError):
        await box.write_file(f"{there}/shut/new", b"")
    same(await box.list_dir(f"{there}/shut"), [], "entries")


@check("paths.system", "the system's own files cannot be replaced")
async def system(box: Sandbox) -> None:
    before = await box.read_file("/etc/passwd")
    try:
        await box.write_file("/etc/passwd", b"root::0:0::/:/bin/sh\n")
    except OSError as exc:
        true(exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS), f"errno {exc.errno}")
    same(await box.read_file("/etc/passwd"), before, "content")


@check("paths.symlink-write", "writing to a symlink is refused with ELOOP; the link and its target stay")
async def symlink_write(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/target", b"old")
    await output(box, "ln -s target link; ln -s nowhere dangling", cwd=there)
    for name in ("link", "dangling"):
        with raises(OSError, errno=errno.ELOOP):
            await box.write_file(f"{there}/{name}", b"new")
        same((await box.stat(f"{there}/{name}")).kind, "symlink", "kind")
    same(await box.read_file(f"{there}/target"), b"old", "content of the target")
    same(len(await box.list_dir(there)), 3, "entries")


@check(
    "paths.symlink-read",
    "reading follows symlinks, absolute, relative and through directories, inside the box",
)
async def symlink_read(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/dir/target", b"found", parents=True)
    await output(box, f"ln -s dir/target a; ln -s {there}/dir/target b; ln -s dir d; ln -s a e", cwd=there)
    for name in ("a", "b", "d/target", "e", "d/../a"):
        same(await box.read_file(f"{there}/{name}"), b"found", name)
    await box.write_file(f"{there}/d/new", b"through")
    same(await box.read_file(f"{there}/dir/new"), b"through", "written through a linked directory")


@check("paths.symlink-broken", "a dangling symlink is a FileNotFoundError to read, a circle an ELOOP")
async def symlink_broken(box: Sandbox) -> None:
    there = await scratch(box)
    await output(box, "ln -s nowhere dangling; ln -s circle circle", cwd=there)
    with raises(FileNotFoundError):
        await box.read_file(f"{there}/dangling")
    with raises(OSError, errno=errno.ELOOP):
        await box.read_file(f"{there}/circle")
    same((await box.stat(f"{there}/dangling")).target, "nowhere", "target")


@check("paths.fifo", "a FIFO is refused at once for reading and writing, and stays")
async def fifo(box: Sandbox) -> None:
    path = f"{await scratch(box)}/fifo"
    await output(box, f"mkfifo {path}")
    async with asyncio.timeout(PATIENCE_S):
        with raises(ValueError):
            await box.read_file(path)
        with raises(ValueError):
            await box.write_file(path, b"x")
        with raises(NotADirectoryError):
            await box.list_dir(path)
    same((await box.stat(path)).kind, "fifo", "kind")


@check("paths.fifo-link", "a symlink to a FIFO or a device is refused as they are")
async def fifo_link(box: Sandbox) -> None:
    there = await scratch(box)
    await output(box, "mkfifo fifo; ln -s fifo a; ln -s /dev/zero b", cwd=there)
    async with asyncio.timeout(PATIENCE_S):
        for name in ("a", "b"):
            with raises(ValueError):
                await box.read_file(f"{there}/{name}")


@check("paths.device", "a device is refused for reading and writing")
async def device(box: Sandbox) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for path in ("/dev/zero", "/dev/null", "/dev/urandom"):
            with raises(ValueError):
                await box.read_file(path)
            with raises(ValueError):
                await box.write_file(path, b"x")
            same((await box.stat(path)).kind, "device", "kind")


@check("paths.stat", "stat tells kind, size, mode, time and target of the path itself")
async def stat(box: Sandbox) -> None:
    there = await scratch(box)
    await box.write_file(f"{there}/file", b"12345", mode=0o640)
    await output(box, "mkdir dir; chmod 1770 dir; ln -s file link; mkfifo fifo", cwd=there)
    file, directory, link = [await box.stat(f"{there}/{name}") for name in ("file", "dir", "link")]
    same(
        (file.path, file.kind, file.size, file.mode, file.target),
        (f"{there}/file", "file", 5, 0o640, None),
        "file",
    )
    same((directory.kind, directory.mode), ("directory", 0o1770), "directory")
    same((link.kind, link.target, link.size), ("symlink", "file", 4), "symlink")
    same((await box.stat(f"{there}/fifo")).kind, "fifo", "kind")
    true(abs(file.mtime_ns / 1e9 - time.time()) < 86_400, f"modification time {file.mtime_ns}")


@check(
    "paths.list", "a listing has every entry once, sorted by the bytes of its name, with what stat says of it"
)
async def listing(box: Sandbox) -> None:
    there = await scratch(box)
    names = ["B", "a", "Z", "_", "é", "b b", ".dot", "-x"]
    for name in names:
        await box.write_file(f"{there}/{name}", name.encode())
    await output(box, "mkdir sub; : > sub/inner; ln -s /etc link", cwd=there)
    entries = await box.list_dir(there)
    expected = sorted([*names, "sub", "link"], key=str.encode)
    same([entry.path for entry in entries], [f"{there}/{name}" for name in expected], "paths")
    for entry in entries:
        same(await box.stat(entry.path), entry, "entry")
    same(
        await box.list_dir(f"{there}/sub/"), [await box.stat(f"{there}/sub/inner")], "with a slash at the end"
    )


@check("paths.list-empty", "an empty directory lists nothing")
async def list_empty(box: Sandbox) -> None:
    same(await box.list_dir(await scratch(box)), [], "entries")


@check("paths.list-many", "a directory of three thousand entries is listed whole")
async def list_many(box: Sandbox) -> None:
    there = await scratch(box)
    await output(box, "i=0; while [ $i -lt 3000 ]; do : > some-longer-name-$i; i=$((i+1)); done", cwd=there)
    found = [entry.path.rpartition("-")[2] for entry in await box.list_dir(there)]
    same(len(found), 3000, "entries")
    same(set(found), {str(number) for number in range(3000)}, "names")


@check("paths.too-long", "a name or path that is too long is an ENAMETOOLONG")
async def too_long(box: Sandbox) -> None:
    for path in ("/tmp/" + "x" * 256, "/tmp/" + "/".join(["x" * 200] * 30)):
        await all_raise(
            OSError, box.read_file(path), box.write_file(path, b""), box.stat(path), errno=errno.ENAMETOOLONG
        )
