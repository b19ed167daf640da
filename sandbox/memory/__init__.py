"""The in-memory double of a sandbox: the whole surface, no container, no host process, no host file.

    box = MemorySandbox(files={"/workspace/a.txt": "hello"}, commands={"pytest": passing})

For tests of what stands on a sandbox. It keeps the contract `conformance.py` states; it contains nothing.
"""

from sandbox.memory.box import MemorySandbox
from sandbox.memory.processes import GuestProcess, Program

__all__ = ["GuestProcess", "MemorySandbox", "Program"]
