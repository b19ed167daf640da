"""Journals of sessions that never ran: how one begins."""

from __future__ import annotations

from typing import Any

from harness.events import SessionStarted
from policies import load
from policies.load import digest
from policies.schema import Policy


def first_entry(
    session: str, task: str = "t", policy: Policy | None = None, **changed: Any
) -> SessionStarted:
    """Of a session under this policy (strict, if none is given) and without a workspace."""
    policy = policy or load("strict")
    given = {
        "session": session,
        "task": task,
        "model": "scripted:x",
        "policy": policy.model_dump(mode="json"),
        "policy_digest": digest(policy),
        "image": "usermode/base",
        "image_digest": "sha256:0",
        "runtime": "runc",
        "workspace": None,
        "harness_version": "0",
    }
    return SessionStarted(**{**given, **changed})
