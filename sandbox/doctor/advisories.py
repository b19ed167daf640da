"""Advisories (known vulnerabilities): holes in the engine's parts that matter to containment.

A version says what upstream fixed. Distributions mend old versions without renumbering them, and then their
own changelog, where it is installed, names the hole as closed.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Component = Literal["docker", "containerd", "runc"]
Version = tuple[int, int, int]

PACKAGES: dict[Component, tuple[str, ...]] = {
    "docker": ("docker.io",),
    "containerd": ("containerd",),
    "runc": ("runc",),
}
DOCUMENTS = Path("/usr/share/doc")


@dataclass(frozen=True)
class Advisory:
    id: str
    component: Component
    fixed: tuple[Version, ...]
    """First mended version of each mended release branch; other branches before the newest stay open."""
    meaning: str


ADVISORIES = (
    Advisory(
        "CVE-2024-21626",
        "runc",
        ((1, 1, 12),),
        "an image or a command whose working directory is a leaked descriptor reaches the host's files",
    ),
    Advisory(
        "CVE-2025-31133",
        "runc",
        ((1, 2, 8), (1, 3, 3), (1, 4, 0)),
        "a container that swaps its /dev/null for a link while it starts unmasks paths of /proc",
    ),
    Advisory(
        "CVE-2025-52565",
        "runc",
        ((1, 2, 8), (1, 3, 3), (1, 4, 0)),
        "a race on /dev/console, which only containers with a terminal have; ours have none on PID 1",
    ),
    Advisory(
        "CVE-2025-52881",
        "runc",
        ((1, 2, 8), (1, 3, 3), (1, 4, 0)),
        "writes of runc to /proc can be redirected by containers that share a mount while they start",
    ),
    Advisory(
        "CVE-2022-24769",
        "docker",
        ((20, 10, 14),),
        "capabilities were inheritable; ours have none to inherit unless a policy names some",
    ),
    Advisory(
        "CVE-2024-29018",
        "docker",
        ((23, 0, 11), (25, 0, 5), (26, 0, 0)),
        "names leak from internal networks through the host's resolver; a session has no network at all",
    ),
    Advisory(
        "CVE-2024-25621",
        "containerd",
        ((1, 7, 29), (2, 0, 7), (2, 1, 5), (2, 2, 0)),
        "other users of this host can enter containerd's directories; nothing inside a container can",
    ),
)


def parse(version: str) -> Version | None:
    """`1.1.5+ds1` is (1, 1, 5). A pre-release counts as older than its release."""
    match = re.match(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,6})(-(?:rc|beta|alpha))?", version)
    if match is None:
        return None
    major, minor, patch = (int(match[group]) for group in (1, 2, 3))
    return (major, minor, patch - 1) if match[4] else (major, minor, patch)


def affected(advisory: Advisory, version: Version) -> bool:
    if any(version[:2] == fix[:2] and version >= fix for fix in advisory.fixed):
        return False
    return version < max(advisory.fixed)


def open_holes(component: Component, version: str, mended: Iterable[str] = ()) -> list[Advisory]:
    """Advisories that hold for this version and are not among those its distribution says it mended."""
    parsed = parse(version)
    if parsed is None:
        return []
    closed = set(mended)
    return [
        one
        for one in ADVISORIES
        if one.component == component and one.id not in closed and affected(one, parsed)
    ]


def mended_by_distribution(component: Component, documents: Path = DOCUMENTS) -> frozenset[str]:
    """The CVE numbers that the installed package's changelog names. Empty where none is installed."""
    found: set[str] = set()
    for package in PACKAGES[component]:
        path = documents / package / "changelog.Debian.gz"
        try:
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as stream:
                found.update(re.findall(r"CVE-\d{4}-\d{4,7}", stream.read(8 << 20)))
        except (OSError, EOFError):
            continue
    return frozenset(found)
