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
PARTS = " ".join(
    [*sorted(f"{path.stem}.o" for path in INIT.glob("*.c") if path.name != "main.c"), "options.o"]
)
"""All but the loop itself, which the fuzzer has within."""


async def compile_all(box: Sandbox) -> None:
    """Objects of init and of the fuzzer in /tmp/src, each file once, two at a time."""
    for path in [*INIT.glob("*.[ch]"), *INIT.glob("fuzz/*.c")]:
        target = f"/tmp/src/{path.relative_to(INIT)}"
        await box.write_file(target, path.read_bytes(), parents=True)
    await box.write_file("/tmp/src/options.c", OPTIONS)
    await built(box, f"printf '%s\\n' *.c fuzz/fuzz.c | xargs -P 2 -n 1 gcc {FLAGS} -I. -c")


async def built(box: Sandbox, text: str) -> None:
    """A shell's line in /tmp/src; AssertionError with its complaint."""
    done = await box.run(Command(("sh", "-c", f"cd /tmp/src && {text}"), cwd="/"))
    assert done.exit_code == 0, done.stderr.decode()


async def link_init(box: Sandbox) -> bytes:
    await built(box, f"gcc {FLAGS} -o /tmp/init main.o {PARTS}")
    return await box.read_file("/tmp/init")


async def link_fuzzer(box: Sandbox) -> None:
    """/tmp/fuzz: `fuzz SECONDS SEED`."""
    await built(box, f"gcc {FLAGS} -o /tmp/fuzz fuzz.o {PARTS}")
