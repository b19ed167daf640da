"""What tells the usual programs where the gate is: the variables they look at, in the spelling each wants."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PORT = 3128
"""On the loopback inside; an old port of HTTP proxies. SOCKS5 is spoken on it as well."""
NOT_PROXIED = "localhost,127.0.0.1,::1"


def variables(port: int = PORT) -> Mapping[str, str]:
    """Upper case for most, lower case for curl and its kin; `socks5h` lets the gate resolve the names."""
    http, other = f"http://127.0.0.1:{port}", f"socks5h://127.0.0.1:{port}"
    both = {"HTTP_PROXY": http, "HTTPS_PROXY": http, "ALL_PROXY": other, "NO_PROXY": NOT_PROXIED}
    return MappingProxyType(
        both
        | {name.lower(): value for name, value in both.items()}
        # Node's own fetch looks at the variables above only if it is told to; npm has a setting of its own.
        | {"NODE_USE_ENV_PROXY": "1", "npm_config_noproxy": NOT_PROXIED}
    )
