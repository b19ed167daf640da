"""`usermode --help`: a whole process, from its start to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.bench.figure import Beside, Figure, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, blocking, interleaved


async def measure(bench: Bench) -> list[Figure]:
    script = Path(sys.executable).with_name("usermode")
    # Without the installed command (a checkout that is only on the path), the same module.
    argv = [str(script)] if script.exists() else [sys.executable, "-m", "harness"]
    ours, bare = await interleaved(
        bench.count(10, 3),
        Contender("usermode --help", blocking(lambda: _run(*argv, "--help"))),
        Contender("python -c pass", blocking(lambda: _run(sys.executable, "-c", "pass"))),
    )
    return [Figure("the command line answers", ours, Target(0.2), (Beside(bare),))]


def _run(*argv: str) -> None:
    # Compiled modules are kept between two runs, as they are for whoever installed it.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env)
