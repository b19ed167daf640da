"""A world for each test: programs inside, a gate, and servers on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from gate_world import World, new_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with new_world() as one:
        yield one
