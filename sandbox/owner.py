"""Who a container belongs to: labels that let any later process tell an orphan from one in use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

SESSION = "usermode.session"
OWNER = "usermode.owner"
"""`boot id:pid:start time` of the harness that made it; a pid alone is used again."""
STATE = "usermode.state"
"""The session's directory on the host."""

FILE = "owner"
"""In the session's directory, from before anything else is made: the same as the label."""


@cache
def this_process() -> str:
    return f"{_boot_id()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
    """Whether the process that wrote this label still runs. What cannot be told counts as alive."""
    boot, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    if not pid.isdigit() or not started:
        return True
    return boot == _boot_id() and _start_time(int(pid)) == started


def claim(state: Path) -> None:
    """This process uses the session's directory from here on."""
    (state / FILE).write_text(this_process())


def in_use(state: Path) -> bool:
    """Whether a living process uses the session's directory."""
    try:
        return is_alive((state / FILE).read_text())
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _start_time(pid: int) -> str:
    """In clock ticks since boot; "0" when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "0"
    return text.rpartition(")")[2].split()[19]
