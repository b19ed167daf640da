"""Which model (`provider:model`): from a name on the command line to an open provider.

A key goes only where it is meant to: `anthropic` and `openai` send theirs to their own service, or to the
base URL that was named for them; `openai-chat`, which may talk to anybody, has a variable of its own and
sends OpenAI's key only to OpenAI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.provider import Provider, ProviderError
from harness.providers.anthropic import AnthropicProvider
from harness.providers.openai import OpenAIProvider
from harness.providers.openai_chat import OpenAIChatProvider
from harness.providers.replay import ReplayProvider
from harness.providers.scripted import ScriptedProvider
from harness.store import Store, home

FORMS = (
    "anthropic:MODEL",
    "openai:MODEL",
    "openai-chat:MODEL (any server, with --base-url)",
    "scripted:FILE",
    "replay:SESSION",
)
CHAT_KEY = "OPENAI_CHAT_API_KEY"


def open_provider(name: str, *, base_url: str | None = None, env: Mapping[str, str] = os.environ) -> Provider:
    """The provider that `name` asks for. Nothing is sent anywhere yet, and no SDK is loaded.

    Raises UsageError for a name or a base URL that is none, and ProviderError("auth") that names the variable
    where the key is looked for.
    """
    kind, _, model = name.partition(":")
    if base_url is not None:
        _check_url("--base-url", base_url)
    match kind:
        case _ if not model.strip():
            raise UsageError(f"no model in {name!r}: give one of {', '.join(FORMS)}")
        case "anthropic":
            url = service(name, base_url, env=env)
            return AnthropicProvider(model, api_key=_key(env, "ANTHROPIC_API_KEY"), base_url=url)
        case "openai":
            url = service(name, base_url, env=env)
            return OpenAIProvider(model, api_key=_key(env, "OPENAI_API_KEY"), base_url=url)
        case "openai-chat" if base_url is None:
            key = _key(env, CHAT_KEY, "OPENAI_API_KEY", instead="name another server with --base-url")
            return OpenAIChatProvider(model, api_key=key)
        case "openai-chat":
            # Local servers ask for no key, and the SDK for some key.
            return OpenAIChatProvider(model, api_key=env.get(CHAT_KEY) or "none", base_url=base_url)
        case "scripted" | "replay" if base_url is not None:
            raise UsageError(f"{kind} asks no service: a base URL has no meaning for {name!r}")
        case "scripted":
            return ScriptedProvider.from_file(Path(model))
        case "replay":
            return ReplayProvider.from_journal(_recording(model, env))
        case _:
            raise UsageError(f"no provider {kind!r}: give one of {', '.join(FORMS)}")


def service(name: str, base_url: str | None, *, env: Mapping[str, str] = os.environ) -> str | None:
    """Where that model is asked; None for its provider's own service. UsageError for a URL that is none."""
    if base_url is not None:
        _check_url("--base-url", base_url)
        return base_url
    match name.partition(":")[0]:
        case "anthropic":
            return _url(env, "ANTHROPIC_BASE_URL")
        case "openai":
            return _url(env, "OPENAI_BASE_URL")
        case _:
            return None


def settled(name: str, *, env: Mapping[str, str] = os.environ) -> str:
    """The name as it means the same later and elsewhere: `last` is another session soon, and a relative path
    another file. UsageError for a session that there is not.
    """
    kind, _, model = name.partition(":")
    match kind:
        case "scripted" if model.strip():
            return f"scripted:{Path(model).absolute()}"
        case "replay" if model.strip():
            path = _recording(model, env)
            return f"replay:{path.absolute() if Path(model).exists() else path.name}"
        case _:
            return name


def for_child(provider: Provider, name: str, call_id: str) -> Provider:
    """The same model for a session that this one starts. What is played says what that child said: by its
    `name` in a script, by the call that started it in a recording; UsageError where that holds no such child.
    """
    match provider:
        case ScriptedProvider():
            return provider.of_child(name)
        case ReplayProvider():
            return provider.of_child(call_id)
        case _:
            return provider


def _recording(model: str, env: Mapping[str, str]) -> Path:
    path = Path(model)
    return path if path.exists() else Store(home(env)).session(model)


def _key(env: Mapping[str, str], *names: str, instead: str = "") -> str:
    for name in names:
        if key := env.get(name, "").strip():
            return key
    ways = [f"set {' or '.join(names)}", *([instead] if instead else [])]
    raise ProviderError("auth", f"no key for the model's service: {', or '.join(ways)}")


def _url(env: Mapping[str, str], name: str) -> str | None:
    if url := env.get(name, "").strip():
        _check_url(name, url)
    return url or None


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if good and "@" in parts.netloc:
        # It is shown and journalled, and a key has a place of its own.
        raise UsageError(
            f"{where} holds a name or a password: give those to the model's key, and leave them out"
        )
    if not good:
        raise UsageError(f"{where} {url!r} is not a base URL: give one like http://localhost:8080/v1")
