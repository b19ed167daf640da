"""`usermode image`: usermode's own images, on the engine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from harness.commands.say import say, table
from harness.errors import UsageError
from sandbox.engine import Engine
from sandbox.image.build import NAMES, Name
from sandbox.image.build import build as build_image
from sandbox.image.initbinary import init_binary


def build(wanted: list[str] | None, ca: Path | None) -> int:
    for name in wanted or ():
        if name not in get_args(Name):
            raise UsageError(f"no image {name!r} to build; there are {', '.join(NAMES)}")
    if ca is not None and not ca.is_file():
        raise UsageError(f"--ca {ca}: no such file")
    return asyncio.run(_build([name for name in NAMES if not wanted or name in wanted], ca))


async def _build(names: list[Name], ca: Path | None) -> int:
    engine = await Engine.connect()
    try:
        for name in names:
            await build_image(engine, name, say, ca=ca)
        # Every session needs it, and it is made in the dev image.
        if "dev" in names:
            await init_binary(engine)
    finally:
        await engine.close()
    return 0


def show() -> int:
    return asyncio.run(_show())


async def _show() -> int:
    engine = await Engine.connect()
    try:
        found = await engine.images({"usermode.recipe": ""})
    finally:
        await engine.close()
    rows = [
        (
            tag,
            str(image["Id"]).removeprefix("sha256:")[:12],
            f"{image['Size'] >> 20} MB",
            _day(image["Created"]),
        )
        for image in found
        for tag in image.get("RepoTags") or []
    ]
    if not rows:
        say("no image yet; `usermode image build` makes them")
    table(sorted(rows))
    return 0


def _day(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d")
