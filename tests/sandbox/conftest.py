"""An engine connection for the tests that need a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox.engine import Engine


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    connection = await Engine.connect()
    yield connection
    await connection.close()
