"""Which certificates are trusted: by the gate toward the outside, and by the programs inside."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from sandbox.errors import SandboxRefused
from sandbox.hardening import HOME

BUNDLE = f"{HOME}/.usermode/certificates.pem"
"""Inside. A program that overwrites it deceives only itself."""
BUNDLE_MAX = 4 << 20

ENVIRONMENT: Mapping[str, str] = {
    "SSL_CERT_FILE": BUNDLE,  # OpenSSL, Python's ssl, Go, Rust
    "REQUESTS_CA_BUNDLE": BUNDLE,
    "CURL_CA_BUNDLE": BUNDLE,
    "GIT_SSL_CAINFO": BUNDLE,
    "PIP_CERT": BUNDLE,
    "NODE_EXTRA_CA_CERTS": BUNDLE,
    "NPM_CONFIG_CAFILE": BUNDLE,
    "CARGO_HTTP_CAINFO": BUNDLE,
}
"""Where the usual tools look. A JVM has a store of its own and needs it imported with keytool."""


def upstream(extra: str | None) -> ssl.SSLContext:
    """For the gate as a client: the system's authorities and those of `extra`, a PEM file on the host.

    SandboxRefused when that file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if extra is not None:
        try:
            context.load_verify_locations(cadata=_read(extra).decode("ascii", "replace"))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, and an empty file a ValueError
            raise SandboxRefused(f"network.ca_file {extra}: {error}") from error
    return context


def bundle(extra: str | None, authority: bytes = b"") -> bytes:
    """For the inside: the system's authorities, `extra`'s, and the session's own, PEM."""
    system = ssl.get_default_verify_paths()
    parts = [_read(system.cafile)] if system.cafile else []
    if extra is not None:
        parts.append(_read(extra))
    return b"\n".join([*parts, authority])


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(BUNDLE_MAX + 1)
    except OSError as error:
        raise SandboxRefused(f"certificates in {path}: {_reason(error)}") from error
    if len(data) > BUNDLE_MAX:
        raise SandboxRefused(f"certificates in {path}: more than {BUNDLE_MAX >> 20} MiB")
    return data


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
