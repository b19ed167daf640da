"""Where images come from, and that building what is there already does nothing."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from sandbox.engine import Engine, ImageFacts
from sandbox.errors import EngineFailed, ImageMissing, SandboxRefused
from sandbox.image import build as image
from sandbox.image.build import PARENT, Name, Recipe, build, resolve, state

BOOTSTRAP = """#!/bin/sh
echo "making $1" >&2
echo "with ${USERMODE_CA:-no authority}" >&2
[ ! -e "$(dirname "$0")/broken" ] || { echo "no mirror answers" >&2; exit 1; }
cp "$(dirname "$0")/made.tar" "$1"
"""


class FakeEngine:
    """The part of the engine that builds use, in memory."""

    def __init__(self, *, pulls: bool, builds: bool = True) -> None:
        self.pulls, self.builds = pulls, builds
        self.present: dict[str, ImageFacts] = {}
        self.done: list[str] = []
        self.context: set[str] = set()
        self.added = 0

    def _add(self, reference: str, labels: Mapping[str, str]) -> None:
        self.added += 1
        number = f"sha256:{self.added:064d}"
        self.present[reference] = ImageFacts(number, number, {"Labels": dict(labels)})

    async def image(self, reference: str) -> ImageFacts:
        if reference not in self.present:
            raise ImageMissing(reference)
        return self.present[reference]

    async def pull(self, reference: str, timeout_s: float) -> None:
        self.done.append(f"pull {reference}")
        if not self.pulls:
            raise EngineFailed("the registry cannot be reached")
        self._add(reference, {})

    async def build(
        self, context: Path, reference: str, *, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        self.done.append(f"build {reference}")
        self.context = {path.name for path in context.iterdir()}
        if not self.builds:
            raise EngineFailed("the build cannot reach a mirror")
        self._add(reference, labels)

    async def import_tar(self, archive: Path, reference: str, changes: Iterable[str]) -> None:
        with tarfile.open(archive) as tar:
            assert tar.getnames() == ["bin"]
        self.done.append(f"import {reference}")
        labels = [line.removeprefix("LABEL ") for line in changes if line.startswith("LABEL ")]
        self._add(reference, dict(label.split("=", 1) for label in labels))

    async def remove_image(self, reference: str) -> None:
        self.done.append(f"remove {reference}")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real recipes, with a bootstrap that needs no mirror."""
    directory = tmp_path / "images"
    shutil.copytree(image.recipes(), directory)
    (directory / "bootstrap").write_text(BOOTSTRAP)
    with tarfile.open(directory / "made.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("bin"))
    monkeypatch.setattr(image, "recipes", lambda: directory)
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    return directory


async def made(fake: FakeEngine, name: Name, **options: Any) -> list[str]:
    lines: list[str] = []
    await build(cast(Engine, fake), name, lines.append, **options)
    return lines


@pytest.mark.usefixtures("recipes")
async def test_an_engine_that_can_pull_builds_from_the_dockerfiles() -> None:
    fake = FakeEngine(pulls=True)
    await made(fake, "dev")
    assert fake.done == [f"pull {PARENT}", "build usermode/base", "build usermode/dev"]


async def test_an_engine_that_cannot_pull_uses_the_machines_mirror(recipes: Path) -> None:
    fake = FakeEngine(pulls=False)
    lines = await made(fake, "dev")
    assert fake.done == [f"pull {PARENT}", "import usermode/base", "import usermode/dev"]
    assert any("the registry cannot be reached" in line for line in lines)
    assert any(line.startswith("making ") for line in lines)


@pytest.mark.usefixtures("recipes")
async def test_a_build_that_reaches_no_mirror_is_made_from_the_machines_own() -> None:
    fake = FakeEngine(pulls=True, builds=False)
    await made(fake, "base")
    assert fake.done == [f"pull {PARENT}", "build usermode/base", "import usermode/base"]


async def test_when_nothing_works_the_last_word_is_said_and_no_image_is_there(recipes: Path) -> None:
    (recipes / "broken").touch()
    fake = FakeEngine(pulls=False)
    with pytest.raises(SandboxRefused, match=r"usermode/base .*: no mirror answers"):
        await made(fake, "base")
    assert fake.present == {}


@pytest.mark.usefixtures("recipes")
async def test_a_second_build_does_nothing() -> None:
    fake = FakeEngine(pulls=False)
    await made(fake, "dev")
    fake.done.clear()
    assert await made(fake, "dev") == ["usermode/dev is up to date"]
    assert fake.done == []


async def test_a_changed_recipe_is_built_again_and_the_old_image_goes(recipes: Path) -> None:
    fake = FakeEngine(pulls=False)
    await made(fake, "base")
    old = fake.present["usermode/base"].id
    assert await state(cast(Engine, fake), "base") == "current"
    with (recipes / "base" / "packages").open("a") as packages:
        packages.write("another\n")
    assert await state(cast(Engine, fake), "base") == "outdated"
    fake.done.clear()
    await made(fake, "base")
    assert fake.done == [f"pull {PARENT}", "import usermode/base", f"remove {old}"]


@pytest.mark.usefixtures("recipes")
async def test_an_authority_goes_in_and_stays_until_another_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    first.write_text("one")
    second.write_text("two")
    for fake in (FakeEngine(pulls=False), FakeEngine(pulls=True)):
        lines = await made(fake, "base", ca=first)
        assert f"with {first}" in lines or "usermode.crt" in fake.context
        fake.done.clear()
        await made(fake, "base", ca=first)
        await made(fake, "base")
        assert fake.done == []
        await made(fake, "base", ca=second)
        assert fake.done != []


async def test_the_image_that_a_session_began_with_is_found_whatever_its_name_means_now() -> None:
    fake = FakeEngine(pulls=True)
    old, new = (ImageFacts(f"sha256:{one * 64}", f"sha256:{one * 64}", {}) for one in "ab")
    pulled = ImageFacts(f"sha256:{'c' * 64}", f"sha256:{'d' * 64}", {})
    engine = cast(Engine, fake)
    fake.present = {"x/y:1": new, old.id: old, f"x/y@{pulled.digest}": pulled}
    assert await resolve(engine, "x/y:1") is new
    assert await resolve(engine, "x/y:1", new.digest) is new
    assert await resolve(engine, "x/y:1", old.digest) is old
    assert await resolve(engine, "x/y:1", pulled.digest) is pulled
    del fake.present["x/y:1"]
    assert await resolve(engine, "x/y:1", old.digest) is old
    with pytest.raises(
        SandboxRefused, match=f"x/y:1 with the digest {new.digest} is no longer on the engine"
    ):
        await resolve(engine, "x/y:1", new.digest)


def test_the_two_ways_install_the_same_packages() -> None:
    """One list a recipe, read by the Dockerfile and handed to the bootstrap."""
    for name in image.NAMES:
        recipe = Recipe(name, None)
        assert "/tmp/packages" in (recipe.directory / "Dockerfile").read_text()
        assert recipe.directory / "packages" in recipe.lists


def test_every_file_of_a_recipe_counts(recipes: Path) -> None:
    before = Recipe("dev", None).digest()
    for part in ("base/packages", "dev/packages", "dev/Dockerfile", "bootstrap", "base/setup"):
        path = recipes / part
        path.write_text(path.read_text() + "\n# changed\n")
        after = Recipe("dev", None).digest()
        assert after != before, part
        before = after


@pytest.mark.docker
async def test_our_images_are_there_and_hold_what_their_lists_say() -> None:
    engine = await Engine.connect()
    try:
        for name in image.NAMES:
            assert await state(engine, name) == "current"
        lists = {name: (image.recipes() / name / "packages").read_text().splitlines() for name in image.NAMES}
        wanted = {line for lines in lists.values() for line in lines if line and not line.startswith("#")}
        config = {
            "Image": (await resolve(engine, "usermode/dev")).id,
            "Entrypoint": ["dpkg-query", "--show", "--showformat", "${Package}\n"],
            "HostConfig": {"NetworkMode": "none"},
        }
        code, out, err = await engine.run_once(config, "usermode-test-packages")
    finally:
        await engine.close()
    assert code == 0, err
    assert wanted - set(out.decode().split()) == set()


@pytest.mark.docker
@pytest.mark.parametrize("name", image.NAMES)
async def test_no_program_of_an_image_changes_who_runs_it(name: Name) -> None:
    engine = await Engine.connect()
    try:
        config = {
            "Image": f"usermode/{name}",
            "Entrypoint": ["find", "/", "-xdev", "-perm", "/6000", "-type", "f"],
            "NetworkDisabled": True,
            "HostConfig": {"NetworkMode": "none"},
        }
        code, out, err = await engine.run_once(config, f"usermode-test-setuid-{name}")
    finally:
        await engine.close()
    assert (code, out) == (0, b""), err


@pytest.mark.docker
async def test_nothing_of_the_building_machine_stays_in_an_image() -> None:
    script = (
        "cat /etc/resolv.conf /etc/hostname /etc/machine-id /etc/apt/apt.conf.d/99mmdebstrap 2>/dev/null;"
        "grep -r '://[^/]*@' /etc/apt; ls -A /var/lib/apt/lists /root"
    )
    engine = await Engine.connect()
    try:
        config = {
            "Image": "usermode/base",
            "Entrypoint": ["/bin/sh", "-c", script],
            "NetworkDisabled": True,
            "Hostname": "sandbox",
            "HostConfig": {"NetworkMode": "none"},
        }
        _, out, _ = await engine.run_once(config, "usermode-test-leftovers")
    finally:
        await engine.close()
    left = out.decode().split()
    assert set(left) <= {"sandbox", "/var/lib/apt/lists:", "lock", "partial", "/root:", ".bashrc", ".profile"}
