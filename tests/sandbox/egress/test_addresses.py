"""Addresses: what is not public is refused in every form it can be written in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.egress.addresses import refused_address

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00::1",
    "64:ff9b::101:101",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones_pass(address: str) -> None:
    assert refused_address(address) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_its_mapped_and_translated_forms(
    address: ipaddress.IPv4Address,
) -> None:
    plain = refused_address(str(address))
    assert refused_address(f"::ffff:{address}") == plain
    assert refused_address(str(ipaddress.IPv6Address((0x64FF9B << 96) | int(address)))) == plain


@given(st.ip_addresses(v=4))
def test_whatever_python_calls_private_is_refused(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert refused_address(str(address)) is not None


@given(st.ip_addresses(v=6))
def test_in_ipv6_only_what_is_routed_passes(address: ipaddress.IPv6Address) -> None:
    passes = refused_address(str(address)) is None
    routed = address in ipaddress.ip_network("2000::/3") or address in ipaddress.ip_network("64:ff9b::/96")
    assert not passes or (routed and not address.is_private) or address.ipv4_mapped is not None


def test_the_policy_names_networks_and_credentials_only_by_their_very_address() -> None:
    assert refused_address("10.1.2.3", ["10.0.0.0/8"]) is None
    assert refused_address("::ffff:10.1.2.3", ["10.0.0.0/8"]) is None
    assert refused_address("fd00::1", ["fd00::/8"]) is None
    assert refused_address("11.0.0.1", ["10.0.0.0/8"]) is None
    assert refused_address("192.168.0.1", ["10.0.0.0/8"]) is not None
    for metadata in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"):
        assert refused_address(metadata, ["0.0.0.0/0", "::/0"]) is not None
        assert refused_address(metadata, [metadata]) is None
