"""Looking into TLS (interception): the gate answers for the host, reads requests, and asks the host itself.

Only for sessions whose policy says `network.intercept`. It is what rules on requests and bound secrets need;
without it the gate knows of a TLS connection only whom it is for.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from types import MappingProxyType

from policies.schema import Policy
from sandbox.egress import trust
from sandbox.egress.authority import Authority
from sandbox.egress.bound import BoundSecrets
from sandbox.egress.errors import Unreached
from sandbox.egress.http import answer, serve_http
from sandbox.egress.live import Live, Way
from sandbox.egress.peers import Guest, Upstream
from sandbox.egress.tls import TlsGuest, TlsUpstream, verified
from sandbox.egress.warden import Warden


class Inspection:
    """What a session that is looked into has of its own: an authority, its trust, and its secrets."""

    def __init__(
        self, policy: Policy, environ: Mapping[str, str], sentinels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """SandboxRefused when a secret or a certificate file cannot be had. `sentinels`: of the secrets."""
        self._authority = Authority("gate")
        self._trust = trust.upstream(policy.network.ca_file)
        self.secrets = BoundSecrets(policy.secrets.bound, environ, sentinels)
        self.bundle = trust.bundle(policy.network.ca_file, self._authority.pem)

    async def carry(self, gate: Warden, live: Live, way: Way) -> None:
        """Serve the requests of a program that begins TLS for `way`'s host; its first word is unread."""
        guest = TlsGuest(live.guest, self._authority.context(way.host))
        try:
            await guest.shake_hands()
        except (ssl.SSLError, TimeoutError) as error:
            raise Unreached("The program does not accept the gate's certificate.") from error
        live.guest, live.secrets, live.answer = Guest(guest), self.secrets, answer
        # From here on the gate can say in HTTP what is wrong with the other side.
        assert live.upstream is not None
        live.upstream = await verified(live.upstream, self._trust)
        await serve_http(gate, live, inside=way)
        with contextlib.suppress(ConnectionError):
            await live.guest.end()

    async def secure(self, raw: Upstream) -> TlsUpstream:
        """Another connection for a later request. Unreached."""
        return await verified(raw, self._trust)
