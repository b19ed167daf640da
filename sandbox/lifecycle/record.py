"""What a session leaves on the host for another process: enough to take its container over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policies import Policy

RECORD = "sandbox.json"
"""In the session's state directory: what `attach_sandbox` needs to know of a container."""


@dataclass(frozen=True)
class Record:
    """What another process needs to know of a container to take it over."""

    policy: Policy
    environment: Mapping[str, str]
    temporary: bool
    left: bool
    """On purpose, by `detach`: no orphan."""
    runtime: str

    def save(self, state: Path) -> None:
        text = json.dumps({**vars(self), "policy": self.policy.model_dump(mode="json")})
        path, temporary = state / RECORD, state / f"{RECORD}.new"
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
        ) as file:
            file.write(text)
        temporary.replace(path)

    @classmethod
    def load(cls, state: Path) -> Record:
        """OSError or ValueError when there is none that can be read."""
        fields = json.loads((state / RECORD).read_text())
        return cls(**{**fields, "policy": Policy.model_validate(fields["policy"])})
