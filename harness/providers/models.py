"""Which model (`provider:model`): from a name on the command line to an open provider."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.providers.base import Provider
from harness.providers.scripted import ScriptedProvider

FORMS = ("scripted:FILE",)


def open_provider(name: str, *, base_url: str | None = None, env: Mapping[str, str] = os.environ) -> Provider:
    """The provider that `name` asks for. Nothing is sent anywhere yet.

    Raises UsageError for a name that is none, and ProviderError("auth") naming the variable that should hold
    the key.
    """
    kind, _, model = name.partition(":")
    if not model:
        raise UsageError(f"no model in {name!r}: give one of {', '.join(FORMS)}")
    if kind == "scripted":
        return ScriptedProvider.from_file(Path(model))
    raise UsageError(f"no provider {kind!r}: give one of {', '.join(FORMS)}")
