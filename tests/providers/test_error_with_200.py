"""An error under the status of success is the error that it tells of."""

from __future__ import annotations

import pytest
from asking import fault_of
from services import WIRED
from wire_server import refusal, wire_server


@pytest.mark.parametrize("service", WIRED)
async def test_an_error_that_comes_as_a_success_is_told_as_it_is(service):
    bodies = {
        "context_overflow": {"error": {"message": "maximum context length is 6500 tokens", "code": 400}},
        "auth": {"error": {"message": "No such key", "code": 401}},
        "server": {"error": "something went wrong"},
        "garbage": {"hello": "you"},
    }
    async with wire_server(*(refusal(200, body) for body in bodies.values())) as server:
        provider = WIRED[service].open(server.url)
        found = [await fault_of(provider) for _ in bodies]
        await provider.aclose()
    assert [fault.fault for fault in found] == list(bodies)
