"""What a session is started with: what the user asks for, and the parts that were had for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from harness.approvals.petition import Petition, Prompter
from harness.approvals.remembered import Remembered
from harness.boot.egress import Outfit
from harness.boot.machine import Machine
from harness.control.desk import Talk
from harness.errors import UsageError
from harness.kernel.loop import Price
from harness.messages import Usage
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from harness.process.session import Session
from harness.provider import Provider
from harness.providers.prices import cost_usd
from harness.recovery.rebuilt import Rebuilt
from policies.schema import Policy


@dataclass(frozen=True)
class RunOptions:
    """What to run. Everything but task, model and policy has a default."""

    task: str
    """Empty where the first prompt is said later."""
    model: str
    """`provider:model`."""
    policy: Policy
    """The user's; a workspace's own file only tightens it, unless it is trusted."""
    workspace: Path | None = None
    """Copied in; None for a session without the user's files."""
    image: str | None = None
    """Instead of the policy's."""
    runtime: Literal["runc", "runsc"] | None = None
    """Instead of the policy's."""
    base_url: str | None = None
    home: Path | None = None
    """Where sessions are kept; None for the user's own place."""
    typed: frozenset[str] = frozenset()
    """Keys of the policy, dotted, that the user typed: no file of a project loosens them."""
    watched: bool = True
    """Whether anybody looks at the output of running commands."""
    prompter: Prompter | None = None
    """Asks the person at this terminal; None where there is none."""
    talk: Talk | None = None
    """Brings what the user says while the session runs; without it the session ends with its task, and what
    other terminals said meanwhile."""


@dataclass(frozen=True)
class Start:
    """A session whose journal is open, and all that it needs."""

    options: RunOptions
    policy: Policy
    way_out: Outfit
    provider: Provider
    price: Price
    engine: Machine
    recorder: Recorder
    interrupt: Interrupt
    session: Session
    memory: Remembered | None
    kept: Sequence[Petition]
    """What was answered for good, earlier."""
    directory: Path
    image: str
    image_digest: str
    past: Rebuilt | None = None
    """What its journal told, of a session that is taken up again."""
    line: str = ""
    """The name of a session that another one started, after those above it: `tests/unit`."""

    @property
    def planted(self) -> bool:
        """Whether the workspace is another session's, and stands or is promised before the first sandbox."""
        if self.past is not None:
            return self.past.planted
        return bool(self.line) and self.options.workspace is not None


def price_of(model: str, policy: Policy) -> Price:
    """What a reply costs. An unknown price is not zero: with a limit on cost nothing starts."""
    if policy.limits.cost_usd is not None and cost_usd(model, Usage()) is None:
        raise UsageError(
            f"the price of {model} is unknown, so the limit of ${policy.limits.cost_usd:g} cannot be kept; "
            "take limits.cost_usd out of the policy, or another model"
        )
    return partial(cost_usd, model)
