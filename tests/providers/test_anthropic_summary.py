"""A request for a summary: none that follows shares its beginning, so nothing of it is to be cached."""

from __future__ import annotations

import json
from dataclasses import replace

from asking import BASH, ask

from harness.messages import user
from harness.providers.anthropic import request_body


def test_a_summary_writes_no_cache():
    turn = ask(user("go"), tools=(BASH,))
    for purpose, marks in (("turn", 3), ("summary", 0)):
        body = json.dumps(request_body(replace(turn, purpose=purpose), "anthropic:claude"))
        assert body.count("cache_control") == marks
