"""The seccomp filters that ship with the project, as the engine wants them: JSON text.

Each file in `policies/seccomp/` is complete, so it also serves a plain `docker run`.
`default` is `strict` and what its comments call added by default; `debug` is `default` and tracing.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from policies.schema import SeccompProfile


@cache
def seccomp_profile(name: SeccompProfile) -> str:
    """One line of JSON, the same for every call."""
    text = (resources.files("policies") / "seccomp" / f"{name}.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"))
