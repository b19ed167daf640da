"""What the checks share: asking for a command, saying what was expected, watching for life."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from sandbox.protocol import Command, Completed, Sandbox

PATIENCE_S = 20.0
"""For something that happens at once on a quiet machine."""
ALL_BYTES = bytes(range(256))


def shell(text: str, **fields: Any) -> Command:
    """`sh -c text`; what follows `sh` in `arguments` is `$1` and on."""
    arguments = fields.pop("arguments", ())
    return Command(("sh", "-c", text, "sh", *arguments), **fields)


async def ask(box: Sandbox, text: str, **fields: Any) -> Completed:
    return await box.run(shell(text, **fields))


async def output(box: Sandbox, text: str, **fields: Any) -> bytes:
    """Standard output of a command that must succeed and say nothing on standard error."""
    done = await ask(box, text, **fields)
    same((done.exit_code, done.stderr), (0, b""), f"outcome of {text!r}")
    return done.stdout


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} … {text[-60:]} ({len(text)} characters)"


def same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: expected {short(expected)}, found {short(found)}")


def true(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


@contextmanager
def raises(*kinds: type[BaseException], errno: int | None = None) -> Iterator[None]:
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        yield
    except kinds as exc:
        if errno is not None:
            same(getattr(exc, "errno", None), errno, "errno")
        return
    except Exception as exc:
        raise AssertionError(f"expected {names}, found {type(exc).__name__}: {exc}") from exc
    raise AssertionError(f"expected {names}, nothing was raised")


async def all_raise(
    kind: type[BaseException], *operations: Coroutine[Any, Any, object], errno: int | None = None
) -> None:
    """Each of the operations raises this."""
    waiting = list(operations)
    try:
        while waiting:
            with raises(kind, errno=errno):
                await waiting.pop(0)
    finally:
        for operation in waiting:
            operation.close()


async def scratch(box: Sandbox, under: str = "/tmp") -> str:
    """A directory of this check's own."""
    path = f"{under}/conformance-{secrets.token_hex(6)}"
    await output(box, f"mkdir {path}")
    return path


def heartbeat(path: str) -> str:
    """Shell text that lives for ever and shows it by making a file grow."""
    return f"while :; do echo x >> {shlex.quote(path)}; sleep 0.1; done"


async def size_of(box: Sandbox, path: str) -> int:
    try:
        return (await box.stat(path)).size
    except FileNotFoundError:
        return 0


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for something that only asking shows."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - it happens inside, where no event of ours is
            await asyncio.sleep(0.03)


async def beats(box: Sandbox, path: str) -> None:
    """Wait until the heartbeat is seen to go on."""
    start = await size_of(box, path)

    async def grown() -> bool:
        return await size_of(box, path) >= start + 4

    await until(grown)


async def dead(box: Sandbox, path: str) -> None:
    """The heartbeat began and has stopped: looked at the effect, not at a list of processes."""
    before = await size_of(box, path)
    true(before, f"{path} never began to beat")
    await asyncio.sleep(0.6)
    same(await size_of(box, path), before, "bytes written by what should have ended")


async def settled(box: Sandbox, call_id: str) -> None:
    """Wait until nothing of the call is listed."""

    async def gone() -> bool:
        return not (await box.jobs()).get(call_id)

    await until(gone)


def pattern(size: int) -> bytes:
    """Bytes of which no two stretches are alike, so that a wrong offset shows."""
    return b"".join(b"%09d\n" % number for number in range(size // 10 + 1))[:size]
