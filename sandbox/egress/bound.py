"""Bound secrets: inside stands a sentinel; the value is put in its place toward the one host it is for.

Nothing here can reveal a value to anybody else: a header that is not the secret's own, another host, a
secret whose use was not approved, all keep the sentinel, which is worth nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from policies.patterns import host_matches
from policies.schema import Secret
from sandbox.egress.masking import Mask, can_stand_for, sentinel_for
from sandbox.errors import SandboxRefused

Headers = Sequence[tuple[bytes, bytes]]


class BoundSecrets:
    """The secrets of one session. Their values are read once, when it starts."""

    def __init__(
        self,
        secrets: Iterable[Secret],
        environ: Mapping[str, str],
        sentinels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """SandboxRefused for a variable that is not set, or holds no secret.

        `sentinels` stood inside before, and still do where they fit the values of today.
        """
        self._values: dict[str, str] = {}
        self._sentinels: dict[str, str] = {}
        self._secrets = {secret.name: secret for secret in secrets}
        for secret in self._secrets.values():
            source = secret.from_env or secret.name
            if not environ.get(source):
                raise SandboxRefused(
                    f"secret {secret.name}: the variable {source} is not set here; set it, or take the "
                    "secret out of the policy"
                )
            try:
                self._sentinels[secret.name] = sentinel_for(environ[source])
            except ValueError as error:
                raise SandboxRefused(f"secret {secret.name}, from {source}: {error}") from None
            self._values[secret.name] = environ[source]
            if can_stand_for(environ[source], before := sentinels.get(secret.name, "")):
                self._sentinels[secret.name] = before
        self._released = {name for name, secret in self._secrets.items() if not secret.ask}

    @property
    def environment(self) -> Mapping[str, str]:
        """What stands inside: a sentinel under each secret's name."""
        return dict(self._sentinels)

    @property
    def values(self) -> Mapping[str, str]:
        """By name, for redaction on the host."""
        return dict(self._values)

    def binds(self, host: str) -> bool:
        """Whether any secret is for this host (canonical)."""
        return any(host_matches(secret.host, host) for secret in self._secrets.values())

    def release(self, name: str) -> None:
        """The user approved its use. KeyError for a name that is no secret of this session."""
        if name not in self._secrets:
            raise KeyError(name)
        self._released.add(name)

    def withhold(self, name: str) -> None:
        """The approval has ended."""
        if name in self._secrets and self._secrets[name].ask:
            self._released.discard(name)

    def inject(self, host: str, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers of a request to `host` (canonical, its certificate verified), with values in place."""
        usable = [
            secret
            for name, secret in self._secrets.items()
            if name in self._released and host_matches(secret.host, host)
        ]
        return [(name, self._filled(name, value, usable)) for name, value in headers]

    def wanted(self, host: str, headers: Headers) -> list[str]:
        """Secrets whose sentinel is on its way to its own host, and whose use was not approved."""
        return [
            name
            for name, secret in self._secrets.items()
            if name not in self._released
            and host_matches(secret.host, host)
            and any(self._filled(header, value, [secret]) != value for header, value in headers)
        ]

    def mask(self) -> Mask:
        """For one stream toward the inside: every value becomes its sentinel again."""
        return Mask({self._values[name]: self._sentinels[name] for name in self._secrets})

    def _filled(self, header: bytes, value: bytes, secrets: Sequence[Secret]) -> bytes:
        for secret in secrets:
            if header.lower() != secret.header.lower().encode():
                continue
            sentinel, real = self._sentinels[secret.name].encode(), self._values[secret.name].encode()
            value = _in_basic(value, sentinel, real) or value.replace(sentinel, real)
        return value


def _in_basic(value: bytes, sentinel: bytes, real: bytes) -> bytes | None:
    """User and password as `Basic` carries them, with the value in place; None when this is none of it."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        plain = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None
    if sentinel not in plain:
        return None
    return scheme + b" " + base64.b64encode(plain.replace(sentinel, real))
