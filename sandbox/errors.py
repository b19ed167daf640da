"""What can go wrong with a sandbox itself. A command that fails is never an error: it is a `Completed`.

SandboxError
├── EngineMissing        no Docker engine answers
├── EngineFailed         the engine answered with an error
├── ImageMissing         the image is not on the engine
├── SandboxRefused       it could not be started as configured
│   └── WorkspaceLost    nor can it later: what it was to work on is not to be had any more
├── SandboxGone          it ended, or the wire to it did
├── WireError            the other end broke the protocol
└── Busy                 no slot or no process to be had inside the sandbox
"""

from __future__ import annotations


class SandboxError(Exception):
    """Base of this tree; the message is one line that says what to do."""


class EngineMissing(SandboxError): ...


class EngineFailed(SandboxError): ...


class ImageMissing(SandboxError):
    def __init__(self, image: str) -> None:
        super().__init__(
            f"image {image!r} is not on the engine; run `usermode image build` or name another with --image"
        )
        self.image = image


class SandboxRefused(SandboxError): ...


class WorkspaceLost(SandboxRefused): ...


class SandboxGone(SandboxError, ConnectionError): ...


class WireError(SandboxError): ...


class Busy(SandboxError): ...
