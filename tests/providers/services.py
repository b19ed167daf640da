"""The three HTTP providers side by side: how each is opened, and the same conversation on each one's wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asking import HASTY, KEY
from test_anthropic_wire import HELLO as CLAUDE_HELLO
from test_chat_wire import HELLO as CHAT_HELLO
from test_openai_wire import HELLO as GPT_HELLO

from harness.provider import Provider
from harness.providers.anthropic import AnthropicProvider
from harness.providers.openai import OpenAIProvider
from harness.providers.openai_chat import OpenAIChatProvider
from harness.providers.wire import Clocks


@dataclass(frozen=True)
class Wired:
    open: Callable[..., Provider]
    hello: tuple[bytes, ...]
    """A whole reply, an event a chunk."""
    begun: int
    """So many of its events, and some text has been said."""
    variable: str
    """Where its key is looked for."""


def _claude(url: str, clocks: Clocks = HASTY) -> Provider:
    return AnthropicProvider("m", api_key=KEY, base_url=url, clocks=clocks)


def _gpt(url: str, clocks: Clocks = HASTY) -> Provider:
    return OpenAIProvider("m", api_key=KEY, base_url=f"{url}/v1", clocks=clocks)


def _chat(url: str, clocks: Clocks = HASTY) -> Provider:
    return OpenAIChatProvider("m", api_key=KEY, base_url=f"{url}/v1", clocks=clocks)


WIRED = {
    "anthropic": Wired(_claude, CLAUDE_HELLO, 4, "ANTHROPIC_API_KEY"),
    "openai": Wired(_gpt, GPT_HELLO, 2, "OPENAI_API_KEY"),
    "openai-chat": Wired(_chat, CHAT_HELLO, 2, "OPENAI_CHAT_API_KEY"),
}
