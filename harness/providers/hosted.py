"""A model behind an HTTP service: what its providers have in common, whichever way the service speaks.

The SDK is loaded with the first request; it signs and sends, and `wire.py` reads the answer.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any

from harness.provider import Delta, ProviderError, Request
from harness.providers.faults import one_line
from harness.providers.wire import CLOCKS, Clocks, Reader, Response, Service, cause, stream_reply


class Hosted(ABC):
    """A Provider, but for what a service has of its own."""

    name: str
    home: str
    """Where it answers without a base URL."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str,
        base_url: str | None = None,
        extra: Mapping[str, Any] = MappingProxyType({}),
        clocks: Clocks = CLOCKS,
    ) -> None:
        """`extra` goes into every request as it is."""
        self.model = model
        self._maker = f"{self.name}:{model}"
        """Whose thoughts are its own: those of another model are not sent to it."""
        self._base_url, self._extra = base_url, extra
        self._api_key, self._clocks = api_key, clocks
        self._opened: tuple[Any, Any] | None = None
        self._opening = asyncio.Lock()

    @property
    @abstractmethod
    def who(self) -> str:
        """The service, in messages."""

    @abstractmethod
    def _open(self) -> tuple[Any, Any]:
        """Import the SDK, and make its client with `_settings`."""

    @abstractmethod
    def _ask(self, client: Any, request: Request) -> AbstractAsyncContextManager[Response]:
        """The request as the client sends it once the context is entered."""

    @abstractmethod
    def _reader(self, service: Service, request: Request) -> Reader:
        """Makes deltas of the answer."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        sdk, client = await self._client()
        service = Service(self.who, sdk, self._clocks, hide=(self._api_key,))
        async for delta in stream_reply(service, self._ask(client, request), self._reader(service, request)):
            yield delta

    async def aclose(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[1].close()

    async def _client(self) -> tuple[Any, Any]:
        """The SDK's module and its client, made off the event loop: importing one takes a second."""
        async with self._opening:
            if self._opened is None:
                try:
                    self._opened = await asyncio.to_thread(self._open)
                except Exception as exc:  # E.g. a proxy in the environment that is no URL.
                    text = one_line(f"cannot set up the client: {cause(exc)}")
                    raise ProviderError("request", text) from exc
            return self._opened

    def _settings(self, sdk: Any) -> dict[str, Any]:
        """What every client is made with. The SDK's own retries are off: the kernel tries again."""
        return {
            "api_key": self._api_key,
            "base_url": self._base_url or self.home,
            "max_retries": 0,
            "timeout": sdk.Timeout(None, connect=self._clocks.connect_s),
            # A redirect would carry the key and the conversation to a host nobody named.
            "http_client": sdk.DefaultAsyncHttpxClient(follow_redirects=False),
        }
