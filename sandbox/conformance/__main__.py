"""`python -m sandbox.conformance [--image REF] [--memory] [ID…]`: the contract as a table."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from policies import load
from sandbox import SandboxSpec, open_sandbox
from sandbox.conformance import CHECKS, run_each
from sandbox.memory import MemorySandbox
from sandbox.protocol import Sandbox


async def main(arguments: argparse.Namespace) -> int:
    """The number of checks that did not pass, 1 at most."""

    @asynccontextmanager
    async def open_one() -> AsyncIterator[Sandbox]:
        if arguments.memory:
            async with MemorySandbox() as double:
                yield double
            return
        spec = SandboxSpec(policy=load(arguments.policy), image=arguments.image, runtime=arguments.runtime)
        async with open_sandbox(spec) as box:
            yield box

    chosen = [one for one in CHECKS if not arguments.ids or one.id in arguments.ids]
    broken = 0
    async for outcome in run_each(open_one, chosen, at_once=arguments.at_once):
        broken += outcome.status != "kept"
        print(
            f"{outcome.status:6}  {outcome.duration_s:6.2f} s  {outcome.id:28}  {outcome.statement}",
            flush=True,
        )
        if outcome.detail:
            print(f"{'':18}{outcome.detail}", flush=True)
    print(f"{len(chosen) - broken} of {len(chosen)} kept")
    return int(broken > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.conformance", description="Check a sandbox's contract."
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="checks to run; without any, all of them")
    parser.add_argument("--image", help="the image to check; without one, the policy's")
    parser.add_argument("--runtime", choices=("runc", "runsc"))
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="checks that run at a time")
    parser.add_argument("--policy", default="strict")
    parser.add_argument(
        "--memory", action="store_true", help="check the in-memory double instead of a container"
    )
    sys.exit(asyncio.run(main(parser.parse_args())))
