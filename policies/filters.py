"""The seccomp filters that ship with the project, as the engine wants them: JSON text.

Each file in `policies/seccomp/` is complete, so it also serves a plain `docker run`.
`default` is `strict` and what its comments call added by default; `debug` is `default` and tracing.

gVisor keeps the same filters, with three differences. It answers EPERM whatever error a rule names, so a rule
that means ENOSYS is spelled there as a question to a tracer, which without one is ENOSYS everywhere (only
`debug` lets there be one). What a rule calls an unknown protocol is left to gVisor, which has none of it and
says so. And names of system calls that it does not know fall to the default, EPERM.
"""

from __future__ import annotations

import json
from errno import ENOSYS, EPROTONOSUPPORT
from functools import cache
from importlib import resources
from typing import Literal

from policies.schema import SeccompProfile


@cache
def seccomp_profile(name: SeccompProfile, runtime: Literal["runc", "runsc"] = "runc") -> str:
    """One line of JSON, the same for every call."""
    text = (resources.files("policies") / "seccomp" / f"{name}.json").read_text(encoding="utf-8")
    profile = json.loads(text)
    if runtime == "runsc":
        for rule in profile["syscalls"]:
            instead = {ENOSYS: "SCMP_ACT_TRACE", EPROTONOSUPPORT: "SCMP_ACT_ALLOW"}
            if "errnoRet" in rule:
                rule["action"] = instead[rule.pop("errnoRet")]
    return json.dumps(profile, separators=(",", ":"))
