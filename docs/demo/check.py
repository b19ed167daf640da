"""Run the mended package's own tests where its code belongs: in a contained session, not on this machine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from policies import load
from sandbox import Command, SandboxSpec, open_sandbox

BUG = """
import parse
exact = parse.compile("SPAM {}", case_sensitive=True)
assert exact.parse("spam eggs") is None, "compile() still ignores case_sensitive"
assert parse.compile("SPAM {}").parse("spam eggs")[0] == "eggs"
"""


async def main(directory: Path) -> int:
    async with open_sandbox(SandboxSpec(policy=load("strict"), workspace=directory)) as box:
        suite = await box.run(Command(argv=("python3", "-m", "unittest", "test_parse")))
        bug = await box.run(Command(argv=("python3", "-c", BUG)))
    # The end of what the guest said, all but plain characters escaped.
    for line in (suite.stderr + bug.stderr).decode(errors="backslashreplace").splitlines()[-6:]:
        print("  |", line.encode("unicode_escape").decode())
    return suite.exit_code or bug.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]).resolve())))
