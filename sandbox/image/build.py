"""Images (root file systems): our own are built here, any other is taken by reference and pinned to its id.

`usermode/base` comes from Debian's image where the engine can pull it, and otherwise from this machine's own
Debian mirror; `usermode/dev` is made the same way as the base under it. A recipe's digest is a label of the
image made from it, so building what is there already costs two requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from sandbox.cache import cache_dir, exclusively
from sandbox.engine import Engine, ImageFacts
from sandbox.engine.reference import split
from sandbox.errors import EngineFailed, ImageMissing, SandboxRefused

PARENT = "debian:bookworm-slim"
PULL_S = 15.0
RECIPE = "usermode.recipe"
SOURCE = "usermode.source"
CA = "usermode.ca"

Name = Literal["base", "dev"]
Source = Literal["pull", "bootstrap"]
Progress = Callable[[str], None]
NAMES: tuple[Name, ...] = ("base", "dev")


@dataclass(frozen=True)
class Recipe:
    name: Name
    ca: Path | None
    """A certificate authority, PEM, that joins the image's trusted ones."""

    @property
    def reference(self) -> str:
        return f"usermode/{self.name}"

    @property
    def directory(self) -> Path:
        return recipes() / self.name

    @property
    def lists(self) -> list[Path]:
        """Package lists of this image and of those under it."""
        return [recipes() / name / "packages" for name in NAMES[: NAMES.index(self.name) + 1]]

    def digest(self) -> str:
        """Of everything the image is made from, the versions in the mirror aside."""
        parts = [
            recipes() / "bootstrap",
            recipes() / "base" / "setup",
            self.directory / "Dockerfile",
            *self.lists,
        ]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(hashlib.sha256(part.read_bytes()).digest())
        return digest.hexdigest()

    def labels(self, source: Source) -> dict[str, str]:
        ca = {CA: hashlib.sha256(self.ca.read_bytes()).hexdigest()} if self.ca else {}
        return {RECIPE: self.digest(), SOURCE: source, **ca}

    def made(self, labels: Mapping[str, str]) -> bool:
        """Whether an image with these labels is what this recipe makes. Not naming an authority keeps one."""
        wanted = self.labels("pull")
        return all(labels.get(key) == value for key, value in wanted.items() if key != SOURCE)


def recipes() -> Path:
    return Path(str(resources.files("images")))


async def resolve(engine: Engine, reference: str, digest: str | None = None) -> ImageFacts:
    """The image a reference means: now, or the one of that digest, whatever the reference has come to mean.

    ImageMissing; SandboxRefused when it is no reference, or that digest is no longer on the engine.
    """
    if digest is None:
        return await engine.image(reference)
    with contextlib.suppress(ImageMissing):
        if (found := await engine.image(reference)).digest == digest:
            return found
    repository, _ = split(reference)
    # Its own id, or a registry's digest, under which the engine keeps what a tag was moved away from.
    for name in (digest, f"{repository}@{digest}"):
        with contextlib.suppress(ImageMissing):
            return await engine.image(name)
    raise SandboxRefused(
        f"the image {reference} with the digest {digest} is no longer on the engine, whatever that name "
        "means now; bring it back (from where it was pulled or saved), or begin another session"
    )


async def build(engine: Engine, name: Name, progress: Progress, *, ca: Path | None = None) -> ImageFacts:
    """Make one of our images, and those under it, unless it is there and its recipe has not changed.

    EngineFailed or SandboxRefused with what to do when neither way works.
    """
    async with exclusively("images"):
        return await _build(engine, Recipe(name, ca), progress)


async def state(engine: Engine, name: Name) -> Literal["missing", "outdated", "current"]:
    """Of one of our images on the engine."""
    if await _present(engine, Recipe(name, None)) is not None:
        return "current"
    return "missing" if await _existing(engine, Recipe(name, None)) is None else "outdated"


async def _build(engine: Engine, recipe: Recipe, progress: Progress) -> ImageFacts:
    present = await _present(engine, recipe)
    if present is not None:
        progress(f"{recipe.reference} is up to date")
        return present
    if recipe.name == "base":
        pulled = await _parent(engine, progress)
    else:
        base = await _build(engine, Recipe("base", recipe.ca), progress)
        pulled = (base.config.get("Labels") or {}).get(SOURCE) == "pull"
    replaced = await _existing(engine, recipe)
    if not (pulled and await _from_dockerfile(engine, recipe, progress)):
        await _from_mirror(engine, recipe, progress)
    made = await engine.image(recipe.reference)
    if replaced is not None and replaced.id != made.id:
        # A container may still use it; then it goes with the next build.
        with contextlib.suppress(EngineFailed):
            await engine.remove_image(replaced.id)
    progress(f"{recipe.reference} is {made.id}")
    return made


async def _existing(engine: Engine, recipe: Recipe) -> ImageFacts | None:
    try:
        return await engine.image(recipe.reference)
    except ImageMissing:
        return None


async def _present(engine: Engine, recipe: Recipe) -> ImageFacts | None:
    found = await _existing(engine, recipe)
    if found is None:
        return None
    current = await asyncio.to_thread(recipe.made, found.config.get("Labels") or {})
    return found if current else None


async def _parent(engine: Engine, progress: Progress) -> bool:
    """Whether the engine has Debian's own image, or could pull it."""
    try:
        await engine.image(PARENT)
    except ImageMissing:
        progress(f"pulling {PARENT} (for {PULL_S:g} s at most)")
    else:
        return True
    try:
        await engine.pull(PARENT, PULL_S)
    except EngineFailed as error:
        progress(f"the engine cannot pull it: {error}")
        return False
    return True


async def _from_dockerfile(engine: Engine, recipe: Recipe, progress: Progress) -> bool:
    """Whether it worked: an engine may pull and its builds still not reach a package mirror."""
    progress(f"building {recipe.reference} from its Dockerfile; this takes some minutes")
    with tempfile.TemporaryDirectory(prefix="usermode-build-") as directory:
        context = Path(directory) / recipe.name
        labels = recipe.labels("pull")
        shutil.copytree(recipe.directory, context)
        if recipe.ca is not None:
            shutil.copyfile(recipe.ca, context / "usermode.crt")
        try:
            await engine.build(context, recipe.reference, arguments={}, labels=labels)
        except EngineFailed as error:
            progress(str(error))
            return False
    return True


async def _from_mirror(engine: Engine, recipe: Recipe, progress: Progress) -> None:
    progress(f"building {recipe.reference} from this machine's Debian mirror; this takes a minute or two")
    with tempfile.TemporaryDirectory(
        prefix="usermode-build-", dir=await asyncio.to_thread(_roomy)
    ) as directory:
        archive = Path(directory) / "root.tar"
        # Now, since the recipe on disk may change while the build runs.
        labels = await asyncio.to_thread(recipe.labels, "bootstrap")
        await _bootstrap(recipe, archive, progress)
        progress(f"importing {recipe.reference}")
        changes = [f"LABEL {key}={value}" for key, value in labels.items()]
        await engine.import_tar(archive, recipe.reference, [*changes, 'CMD ["bash"]'])


def _roomy() -> Path:
    """A directory on disk: /tmp may be memory, and a root file system is large."""
    directory = cache_dir() / "build"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


async def _bootstrap(recipe: Recipe, archive: Path, progress: Progress) -> None:
    """Run the script, each of its lines a line of progress."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if recipe.ca is not None:
        environment["USERMODE_CA"] = str(recipe.ca.absolute())
    script = await asyncio.create_subprocess_exec(
        "sh",
        str(recipes() / "bootstrap"),
        str(archive),
        str(recipes() / "base" / "setup"),
        *map(str, recipe.lists),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    assert script.stdout is not None
    last = ""
    try:
        async for line in script.stdout:
            last = line.decode("utf-8", "replace").strip() or last
            progress(last)
        code = await script.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGTERM)
        await script.wait()
        raise
    if code != 0:
        raise SandboxRefused(f"{recipe.reference} could not be built from this machine's mirror: {last}")
