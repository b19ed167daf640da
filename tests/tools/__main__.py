"""`python -m tests.tools`: Go, Rust, Java, npm and SQLite do real work under the seccomp filters.

Too heavy for every run of the tests: it makes a throw-away image from usermode/dev with Debian's packages
(two gigabytes, so the engine needs a way to Debian's mirror), runs work.sh in it under each filter, and
removes it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILTERS = HERE.parents[1] / "policies" / "seccomp"
IMAGE = "usermode-tools-check"
PACKAGES = "npm golang-go rustc cargo default-jdk-headless sqlite3"
# The JDK's package wants to write a manual page where a slim image has no directory for it.
DOCKERFILE = f"""
FROM usermode/dev
RUN mkdir -p /usr/share/man/man1 && apt-get update && apt-get install -y --no-install-recommends {PACKAGES}
"""
EXPECTED = 5
HARDENED = [
    *("--network", "none", "--cap-drop", "ALL", "--user", "1000:1000", "--security-opt", "no-new-privileges"),
    *("--read-only", "--tmpfs", "/tmp:exec,mode=1777", "--memory", "4g", "--pids-limit", "2048"),
]


def main() -> int:
    print(f"making {IMAGE} from usermode/dev with {PACKAGES}", flush=True)
    built = subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, "-"],
        input=DOCKERFILE, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if built.returncode != 0:
        print(built.stderr[-2000:], file=sys.stderr)
        return 1
    try:
        strict, default = works("strict"), works("default")
        return 0 if strict and default else 1
    finally:
        subprocess.run(["docker", "image", "rm", IMAGE], capture_output=True, check=False)


def works(name: str) -> bool:
    """Run the work under one filter, and say what ran."""
    argv = ["docker", "run", "--rm", "-i", *HARDENED, "--security-opt", f"seccomp={FILTERS / f'{name}.json'}"]
    done = subprocess.run(
        [*argv, IMAGE, "bash"],
        input=(HERE / "work.sh").read_text(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    ran = [line for line in done.stdout.splitlines() if line.startswith("ran: ")]
    ok = done.returncode == 0 and len(ran) == EXPECTED
    print(
        f"{name}: {len(ran)} of {EXPECTED}",
        *ran,
        *([] if ok else [done.stdout[-2000:]]),
        sep="\n  ",
        flush=True,
    )
    return ok


if __name__ == "__main__":
    sys.exit(main())
