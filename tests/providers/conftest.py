"""No test of a provider goes through a proxy the environment names, or reads the machine's certificates
again.
"""

from __future__ import annotations

import ssl
from functools import cache

import pytest

_tls = cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def _on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # Every client loads all certificates; that is most of the time these tests would take.
    monkeypatch.setattr(ssl, "create_default_context", _tls)
