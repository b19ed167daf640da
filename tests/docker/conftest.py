"""What small images are made of comes out of usermode/dev, through a sandbox like any other."""

from __future__ import annotations

import asyncio

import pytest

from policies import load
from sandbox import Command, SandboxSpec, open_sandbox

STATIC_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "copy")) {
        char buffer[4096];
        ssize_t n;
        while ((n = read(0, buffer, sizeof buffer)) > 0)
            if (write(1, buffer, (size_t)n) != n) return 1;
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "wait")) for (;;) pause();
    for (int i = 1; i < argc; i++) printf("[%s]", argv[i]);
    fprintf(stderr, "%s", getenv("GIVEN") ? getenv("GIVEN") : "");
    return 42;
}
"""


async def from_the_dev_image() -> tuple[bytes, list[str], bytes]:
    spec = SandboxSpec(policy=load("dev"), image="usermode/dev")
    async with open_sandbox(spec) as box:
        busybox = await box.read_file("/bin/busybox")
        listed = await box.run(Command(("/bin/busybox", "--list")))
        await box.write_file("/tmp/program.c", STATIC_PROGRAM.encode())
        made = await box.run(Command(("gcc", "-static", "-Os", "-o", "/tmp/program", "/tmp/program.c")))
        assert made.exit_code == 0, made.stderr.decode()
        return busybox, listed.stdout.decode().split(), await box.read_file("/tmp/program")


@pytest.fixture(scope="session")
def ingredients() -> tuple[bytes, list[str], bytes]:
    """busybox, the names of its applets, and a static program."""
    return asyncio.run(from_the_dev_image())


@pytest.fixture
def busybox_files(ingredients: tuple[bytes, list[str], bytes]) -> dict[str, object]:
    busybox, applets, _ = ingredients
    return {"/bin/busybox": busybox} | {f"/bin/{name}": "busybox" for name in applets if name != "busybox"}


@pytest.fixture
def static_files(ingredients: tuple[bytes, list[str], bytes]) -> dict[str, object]:
    return {"/program": ingredients[2]}
