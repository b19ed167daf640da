"""Which addresses a name may lead to: the public ones, and those the policy names.

The table is ours and not `ipaddress.is_global`, whose answers have changed between Python versions. IPv6
forms that carry an IPv4 address are judged by that one, or refused where a relay would unpack them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is routed; loopback, link-local, unique-local, multicast and the rest lie outside."""
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    )
)  # fmt: skip
"""Where clouds hand out credentials. Only an entry for the very address opens one, a network never does."""


def embedded(address: Address) -> Address:
    """The IPv4 address that a mapped or translated IPv6 address stands for; otherwise the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def refused_address(text: str, allowed: Iterable[str] = ()) -> str | None:
    """Why a name must not lead to this address; None where it may. `allowed` is `network.addresses`."""
    try:
        said = ipaddress.ip_address(text)
    except ValueError:
        return "no address"
    if getattr(said, "scope_id", None) is not None:
        return "an address of one link"
    address = embedded(said)
    ranges = [ipaddress.ip_network(entry) for entry in allowed]
    if any(_holds(entry, address) and entry.num_addresses == 1 for entry in ranges):
        return None
    if address in _METADATA:
        return "a metadata service"
    if any(_holds(entry, address) for entry in ranges):
        return None
    if isinstance(address, ipaddress.IPv4Address):
        special = any(address in entry for entry in _SPECIAL_V4)
    else:
        special = address not in _GLOBAL_V6 or any(address in entry for entry in _SPECIAL_V6)
    return "no public address" if special else None


def _holds(entry: Range, address: Address) -> bool:
    return entry.version == address.version and address in entry
