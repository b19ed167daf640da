"""Image references: what may be handed to the engine as the name of an image, and nothing else."""

from __future__ import annotations

import re

from sandbox.errors import SandboxRefused

_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)


def valid_reference(reference: str) -> bool:
    """Whether this is the name of an image and nothing else: no option, no white space, no shell."""
    return len(reference) <= 512 and _REFERENCE.fullmatch(reference) is not None


def checked(reference: str) -> str:
    if not valid_reference(reference):
        raise SandboxRefused(
            f"{reference!r} is not an image reference, e.g. debian:bookworm-slim or name@sha256:…"
        )
    return reference


def split(reference: str) -> tuple[str, str]:
    """Repository and tag or digest; one is always named, since the engine takes none for "all tags"."""
    named, _, digest = reference.partition("@")
    head, _, last = named.rpartition("/")
    name, _, tag = last.partition(":")
    return (f"{head}/{name}" if head else name), digest or tag or "latest"
