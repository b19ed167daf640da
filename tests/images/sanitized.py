"""Building init with AddressSanitizer and UBSan, inside a sandbox, where the compiler is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from policies import Policy, load
from sandbox import Command, Sandbox, SandboxSpec

FLAGS = "-std=gnu11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra -Werror"
OPTIONS = b"""
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:exitcode=99"; }
const char *__ubsan_default_options(void) { return "print_stacktrace=1"; }
"""
INIT = Path(str(resources.files("images"))) / "init"


def roomy() -> Policy:
    """`strict` with room for a compiler."""
    policy = load("strict")
    limits = policy.limits.model_copy(update={"file_bytes": 64 << 20, "command_s": 300, "memory_mb": 4096})
    return policy.model_copy(update={"limits": limits})


DEV = SandboxSpec(roomy(), image="usermode/dev")


async def put_sources(box: Sandbox) -> None:
    for path in [*INIT.glob("*.[ch]"), *INIT.glob("fuzz/*.c")]:
        target = f"/tmp/src/{path.relative_to(INIT)}"
        await box.write_file(target, path.read_bytes(), parents=True)
    await box.write_file("/tmp/src/options.c", OPTIONS)


async def compiled(box: Sandbox, arguments: str) -> None:
    """gcc in /tmp/src; AssertionError with its complaint."""
    done = await box.run(Command(("sh", "-c", f"cd /tmp/src && gcc {FLAGS} {arguments}"), cwd="/"))
    assert done.exit_code == 0, done.stderr.decode()


PARTS = " ".join(sorted(path.name for path in INIT.glob("*.c") if path.name != "main.c")) + " options.c"
"""All but the loop itself, which the fuzzer has within."""


async def build_fuzzer(box: Sandbox) -> None:
    """/tmp/fuzz: `fuzz SECONDS SEED`."""
    await put_sources(box)
    await compiled(box, f"-I. -o /tmp/fuzz fuzz/fuzz.c {PARTS}")
