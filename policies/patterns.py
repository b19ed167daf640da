"""Path globs and host patterns: one canonical form, matched in time linear in pattern times text.

No regular expressions are built from a policy or from guest text, so neither can make a match slow.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Sequence

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
PATH_MAX = 64 << 10
"""Characters of a path; the kernel's own limit is 4096, so nothing real is longer."""


def normal_path(path: str) -> str | None:
    """The absolute path with `.`, `..` and doubled or trailing slashes resolved; None if there is none."""
    if not path.startswith("/") or "\0" in path or len(path) > PATH_MAX:
        return None
    # POSIX gives exactly two leading slashes a meaning of their own, and normpath keeps them.
    return posixpath.normpath("/" + path.lstrip("/"))


def check_path_pattern(pattern: str) -> str:
    """The pattern in normal form. ValueError for what would silently match something else than meant."""
    if not pattern.startswith("/"):
        raise ValueError("a path pattern is absolute, it begins with `/`")
    if bad := set(pattern) & set("[]{}\\\0"):
        raise ValueError(f"`{min(bad)}` has no meaning in a path pattern; use `*`, `**` and `?`")
    parts = pattern.split("/")[1:]
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    for part in parts:
        if part in (".", "..") or (part == "" and len(parts) > 1):
            raise ValueError("a path pattern has no `.`, `..` or empty components")
        if "**" in part and part != "**":
            raise ValueError("`**` stands alone between slashes")
    return "/" + "/".join(parts)


def path_matches(pattern: str, path: str) -> bool:
    """Match a normal path; `**` is any number of directories (also none), `*` and `?` stay inside one."""
    return _wild(_parts(pattern), _parts(path), "**", lambda glob, name: _wild(glob, name, "*", _same_or_any))


def canonical_host(host: str) -> str | None:
    """Lower case, without the root dot; an IP address in its one canonical spelling; None for anything else.

    Only letters, digits and hyphens: an international name must come in its `xn--` form. Spellings of
    IPv4 that only some resolvers accept (`127.1`, `0x7f000001`, `2130706433`) are no host names and no
    addresses here.
    """
    text = host.lower() if host.isascii() else ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            address = ipaddress.IPv6Address(bare)
        except ValueError:
            return None
        # Python versions differ in how they print a mapped address.
        text = f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else address.compressed
        return text if "%" not in text else None
    text = text.removesuffix(".")
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            return None
    return text


def is_address(host: str) -> bool:
    """Whether a canonical host is an IP address."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def check_host_pattern(pattern: str) -> str:
    """The pattern in canonical form. ValueError for all but a host, an address or `*.` and a name."""
    name = pattern.removeprefix("*.")
    host = canonical_host(name)
    if host is None or (name != pattern and is_address(host)):
        raise ValueError(
            "a host is a name such as `example.org`, `*.example.org`, or an IP address; without a port"
        )
    return "*." + host if name != pattern else host


PRESETS = ("@apt", "@npm", "@pip")
"""Stand for the hosts that a tool is configured for on the user's machine; expanded when a session starts."""


def check_host_entry(entry: str) -> str:
    """A host pattern, with `:port` if it names one, or a preset; in canonical form. ValueError otherwise."""
    if entry.startswith("@"):
        if entry not in PRESETS:
            raise ValueError(f"{entry} is no preset; there are {', '.join(PRESETS)}")
        return entry
    host, port = split_entry(entry)
    host = check_host_pattern(host)
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_entry(entry: str) -> tuple[str, int | None]:
    """The host pattern and the port of an entry of `network.allow`. ValueError for a port out of range."""
    host, separator, port = entry.rpartition(":")
    if not separator or (":" in host and not host.endswith("]")):
        return entry.removeprefix("[").removesuffix("]"), None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise ValueError("after the colon stands a port, 1 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_address_range(text: str) -> str:
    """An address, or a network such as `10.0.0.0/8`, in canonical form. ValueError otherwise."""
    return str(ipaddress.ip_network(text))


def host_matches(pattern: str, host: str) -> bool:
    """Match a canonical host; `*.x` is every name below x, but neither x itself nor an address."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and not is_address(host)
    return pattern == host


def host_covers(wide: str, narrow: str) -> bool:
    """Whether every host that `narrow` matches is one that `wide` matches."""
    return wide == narrow or host_matches(wide, narrow.removeprefix("*."))


def entry_covers(wide: str, narrow: str) -> bool:
    """Whether every host and port that the entry `narrow` names is one that `wide` names."""
    if wide == narrow or wide.startswith("@") or narrow.startswith("@"):
        return wide == narrow
    (host, port), (other, its_port) = split_entry(wide), split_entry(narrow)
    # Without a port an entry means those of `network.ports`: neither more nor less than another without.
    return port == its_port and host_covers(host, other)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _same_or_any(glob: str, char: str) -> bool:
    return glob in ("?", char)


def _wild(glob: Sequence[str], items: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Greedy: on a mismatch only the last star has to give way, so the time is never exponential."""
    at = pos = 0
    last_star, resume = -1, 0
    while pos < len(items):
        if at < len(glob) and glob[at] == star:
            last_star, resume = at, pos
            at += 1
        elif at < len(glob) and same(glob[at], items[pos]):
            at += 1
            pos += 1
        elif last_star >= 0:
            resume += 1
            at, pos = last_star + 1, resume
        else:
            return False
    return all(part == star for part in glob[at:])
