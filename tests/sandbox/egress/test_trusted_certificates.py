"""An authority that the policy names is trusted beside the system's; one that cannot be read stops all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.egress.authority import Authority
from sandbox.egress.trust import bundle, upstream
from sandbox.errors import SandboxRefused


def test_an_extra_authority_is_trusted_beside_the_systems(tmp_path: Path) -> None:
    authority = Authority("extra")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    extra = str(tmp_path / "ca.pem")
    with_it, without = upstream(extra), upstream(None)
    assert len(with_it.get_ca_certs()) == len(without.get_ca_certs()) + 1
    assert authority.pem in bundle(extra)
    assert bundle(extra, b"OWN").endswith(b"OWN")


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_one_that_cannot_be_had_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SandboxRefused, match=r"ca\.pem"):
        upstream(str(path))
