"""Attacks on secrets, on the host's files and on the wire (S, C, P)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox.attack.case import Case, NotApplicable, Program, Target
from sandbox.attack.container_cases import SOCKETS
from sandbox.errors import SandboxGone, WireError
from sandbox.protocol import Command
from sandbox.wire.payloads import decode_calls

NO_WIRE = "only a session has a wire"
NO_FILES = "its files are the engine's business; nothing of the harness touches them"
NAMES = ("ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK")

HUNT = """
word = sys.argv[1].encode()
if any(word.decode() in value for value in os.environ.values()):
    done.append("in the environment")
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        if int(path.split("/")[2]) != os.getpid() and word in open(path, "rb").read():
            done.append(f"in {path}")
    except OSError:
        pass
"""


async def inherited(target: Target) -> Sequence[str]:
    """Variables of the host, hunted inside and in what the engine shows of the container."""
    canary = f"canary-{secrets.token_hex(8)}"
    before = {name: os.environ.get(name) for name in NAMES}
    named = set(target.box.policy.secrets.env)
    os.environ.update(dict.fromkeys([name for name in NAMES if name not in named], canary))
    try:
        async with target.fresh() as box:
            # Not as an argument of the hunting program, where it would find itself.
            found = await Program(HUNT, (canary,)).within(box)
            return [place for place in found if "cmdline" not in place]
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


HOMES = """
for home in sys.argv[1:]:
    for name in (".ssh", ".aws", ".config", ".netrc", ".docker/config.json", ".kube", ".gnupg",
                 ".git-credentials"):
        path = os.path.join(home, name)
        if os.path.exists(path):
            done.append(path)
for line in open("/proc/self/mountinfo"):
    root, point = line.split()[3:5]
    if any(root.startswith(home + "/.ssh") or root == home for home in sys.argv[1:]):
        done.append(f"{root} on {point}")
"""


async def homes(target: Target) -> Sequence[str]:
    return await Program(HOMES, (str(Path.home()), "/root", "/home")).within(target.box)


async def state(target: Target) -> Sequence[str]:
    """A file of the harness beside the session's own, looked for everywhere inside."""
    if target.kind != "usermode":
        raise NotApplicable("nothing of the harness belongs to it")
    name = f"usermode-canary-{secrets.token_hex(8)}"
    source = """
for where, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(where, name) not in ("/proc", "/sys")]
    if sys.argv[1] in files:
        done.append(where)
"""
    with tempfile.TemporaryDirectory(prefix="usermode-attack-") as directory:
        (Path(directory) / name).write_text("canary")
        return await Program(source, (name,)).within(target.box)


async def links(target: Target) -> Sequence[str]:
    """A link that the guest made must lead nowhere on the host, read or written."""
    if target.kind != "usermode":
        raise NotApplicable(NO_FILES)
    canary = f"canary-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="usermode-attack-") as directory:
        host = Path(directory) / "host"
        host.write_text(canary)
        await target.box.run(Command(("ln", "-sfn", str(host), "/tmp/link"), cwd="/"))
        achieved = []
        with contextlib.suppress(OSError, ValueError):
            if canary.encode() in await target.box.read_file("/tmp/link"):
                achieved.append("a file of the host was read")
        with contextlib.suppress(OSError, ValueError):
            await target.box.write_file("/tmp/link", b"overwritten")
        if host.read_text() != canary:
            achieved.append("a file of the host was written")
        return achieved


async def linked_parent(target: Target) -> Sequence[str]:
    if target.kind != "usermode":
        raise NotApplicable(NO_FILES)
    with tempfile.TemporaryDirectory(prefix="usermode-attack-") as directory:
        await target.box.run(Command(("ln", "-sfn", directory, "/tmp/parent"), cwd="/"))
        with contextlib.suppress(OSError, ValueError):
            await target.box.write_file("/tmp/parent/new", b"x", parents=True)
        return ["a file was made on the host"] if (Path(directory) / "new").exists() else []


async def forged(target: Target) -> Sequence[str]:
    """Marks and frames that a command prints are output, and its exit code is the kernel's word."""
    if target.kind != "usermode":
        raise NotApplicable(NO_WIRE)
    fake = (
        b'\x00\x00\x00\x00exit 0\n\x1b]133;D;0\x07\n__END__ 0\n{"exit_code": 0}\n' + bytes(range(66, 72)) * 50
    )
    await target.box.write_file("/tmp/forged", fake)
    done = await target.box.run(Command(("sh", "-c", "cat /tmp/forged; exit 9"), cwd="/"))
    return [] if (done.exit_code, done.stdout) == (9, fake) else [f"exit {done.exit_code} was believed"]


WIRE = Program(
    """
gvisor = os.uname().release == "4.4.0"  # there, one's own calls' pipes are one's own
for number in range(2 if gvisor else 16):
    for flags in (os.O_RDONLY, os.O_WRONLY):
        path = f"/proc/1/fd/{number}"
        try:
            file = os.open(path, flags | os.O_NONBLOCK)
        except OSError:
            continue
        if stat.S_ISFIFO(os.fstat(file).st_mode) or stat.S_ISSOCK(os.fstat(file).st_mode):
            done.append(f"opened descriptor {number} of the first process")
        os.close(file)
done[:] = sorted(set(done))
"""
)


async def wire(target: Target) -> Sequence[str]:
    if target.kind != "usermode":
        raise NotApplicable(NO_WIRE)
    if target.root and target.runtime == "runsc":
        raise NotApplicable("root inside gVisor can open it: a limit that docs/threat-model.md states")
    return await WIRE(target)


async def helper(target: Target) -> Sequence[str]:
    """Ending, stopping or replacing the first process."""
    if target.kind != "usermode":
        raise NotApplicable(NO_WIRE)
    source = """
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
for path in ("/.usermode/init", "/proc/1/exe"):
    tried(f"opened {path} for writing", opened, path)
tried("renamed its directory", os.rename, "/.usermode", "/.gone")
"""
    async with target.fresh() as box:
        try:
            achieved = await Program(source).within(box)
            await asyncio.sleep(0.1)
            done = await box.run(Command(("echo", "fine"), cwd="/"))
            return achieved if done.stdout == b"fine\n" else [*achieved, "it does not answer"]
        except SandboxGone:
            return []  # a guest may end its own session; what counts is that the host is told


async def frames(target: Target) -> Sequence[str]:
    """The host's own parser, fed what a guest might send."""
    if target.kind != "usermode":
        raise NotApplicable(NO_WIRE)
    chance = random.Random(0)
    for size in (0, 1, 3, 4, 27, 28, 100, 65_536):
        for _ in range(200):
            with contextlib.suppress(WireError):
                decode_calls(chance.randbytes(size))
    return []


CASES = (
    Case("C01", "links to the host's files", links),
    Case("C02", "a new file behind a linked directory", linked_parent),
    Case("C15", "forged ends of commands", forged),
    Case("N22", "sockets of desktops and agents", SOCKETS),
    Case("P01", "speaking on the wire", wire),
    Case("P02", "ending or replacing the first process", helper),
    Case("P03", "malformed frames to the host", frames),
    Case("S01", "the host's environment", inherited),
    Case("S03", "homes and credentials", homes),
    Case("S07", "the harness's own files", state),
)
