"""The approvals of a session: every question to the user goes through here, and every answer back.

A question is journalled before anybody sees it and its answer before it has any effect. Standing grants are
asked first, then whoever can answer: the prompter at the session's terminal and, through the control socket,
another terminal, at the same time. The first answer holds. Silence, a fault and a shape that cannot be read
are all a no, each with a code of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from harness.approvals.grants import Grants
from harness.approvals.petition import MAX_MINUTES, Answer, Petition, Prompter, Reply, binding_of
from harness.events import ApprovalAnswered, ApprovalAsked, Notice
from harness.process.recorder import Recorder
from policies.errors import PolicyError

WITHDRAW_S = 1.0
"""For a prompter to take a question off the screen; after that nobody waits for it."""
Again = Callable[[], Awaitable[Mapping[str, object]]]
"""Reads again all that a petition is bound to."""


class Memory(Protocol):
    """Where answers for good are kept. Both block, and raise OSError or PolicyError."""

    def keep(self, petition: Petition) -> None: ...
    def forget(self, binding: str) -> None: ...


class Approval:
    """An answered petition. What was granted is used by `redeem`, once, right before the effect."""

    def __init__(self, petition: Petition, answer: Answer, again: Again | None, owner: Approvals) -> None:
        self.petition = petition
        self.answer = answer
        self._again = again
        self._owner = owner
        self._left = 1 if answer.granted else 0

    async def redeem(self) -> bool:
        """Whether the effect may happen now. Use it up, and compute the binding again: what differs is void.

        True at most once, however many ask at the same time.
        """
        if not self._left:
            return False
        self._left = 0  # Before anything is awaited: two callers cannot both pass.
        if self._again is None:
            return True
        if binding_of(self.petition.kind, await self._again()) == self.petition.binding:
            return True
        self.answer = Answer(False, "changed", None, self.answer.by)
        await self._owner.answered(self.petition, self.answer)
        return False


@dataclass(frozen=True)
class Said:
    """An answer, and how long it is to stand for the scope `minutes`."""

    answer: Answer
    minutes: float | None = None


@dataclass(frozen=True)
class Pending:
    """A question that waits for an answer."""

    petition: Petition
    until: float
    """Seconds since the epoch; then it is answered no."""
    said: asyncio.Future[Said]


class Approvals:
    def __init__(
        self,
        recorder: Recorder,
        grants: Grants,
        timeout_s: float,
        *,
        prompter: Prompter | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.grants = grants
        self.reachable = False
        """Whether another terminal can answer: the control socket says so while it listens."""
        self._recorder = recorder
        self._timeout_s = timeout_s
        self._prompter = prompter
        self._memory = memory
        self._asked = 0
        self._pending: dict[str, Pending] = {}
        self._refused: dict[tuple[str, str], str] = {}

    def go_on_from(self, asked: int) -> None:
        """Name the next question after those of before the session was left."""
        self._asked = asked

    @property
    def answerable(self) -> bool:
        """Whether anybody can be asked."""
        return self._prompter is not None or self.reachable

    @property
    def pending(self) -> list[Pending]:
        return [one for one in self._pending.values() if not one.said.done()]

    @property
    def refused(self) -> str | None:
        """What the session asked for and never got, in words; None when it got everything in the end."""
        return next(iter(self._refused.values()), None)

    async def ask(self, petition: Petition, again: Again | None = None) -> Approval:
        """Ask, and wait for the answer, `timeout_s` at most. `again` serves to find that it no longer fits.

        Raises JournalError. Cancelling it withdraws the question.
        """
        self._asked += 1
        petition = replace(petition, name=f"a{self._asked}")
        try:
            await self._recorder.record(_asked(petition, self._timeout_s))
            said = await self._answer(petition)
        except asyncio.CancelledError:
            await self.answered(petition, Answer(False, "denied"))
            raise
        await self.answered(petition, said.answer)
        if said.answer.granted and not said.answer.by.startswith("grant "):
            await self._let_stand(petition, said)
        return Approval(petition, said.answer, again, self)

    def say(self, name: str, reply: Reply, by: str) -> str | None:
        """An answer from elsewhere. None when it holds; else what is wrong with it, and it is not taken."""
        pending = self._pending.get(name)
        if pending is None or pending.said.done():
            return f"no question {name[:20]} waits for an answer"
        fault = _fault(pending.petition, reply)
        if fault is None:
            pending.said.set_result(_heard(reply, by))
        return fault

    async def revoke(self, name: str) -> bool:
        """End a grant, by its name or binding, here and, if it was given for good, for good. JournalError."""
        meant = [grant for grant in self.grants.live() if name in (grant.name, grant.binding)]
        for grant in meant:
            await self.grants.revoke(grant.name)
            if grant.scope == "always" and self._memory is not None:
                await asyncio.to_thread(self._memory.forget, grant.binding)
        return bool(meant)

    async def answered(self, petition: Petition, answer: Answer) -> None:
        """Write an answer down, and keep in mind what was refused."""
        key = (petition.kind, petition.subject)
        if answer.granted:
            self._refused.pop(key, None)
        else:
            self._refused[key] = (
                f"{petition.name} ({petition.kind}: {petition.subject}) was answered {answer.code}"
            )
        await self._recorder.record(
            ApprovalAnswered(
                approval=petition.name,
                granted=answer.granted,
                code=answer.code,
                scope=answer.scope,
                by=answer.by,
            )
        )

    async def _answer(self, petition: Petition) -> Said:
        grant = self.grants.find(petition)
        if grant is not None:
            return Said(Answer(True, "approved", grant.scope, f"grant {grant.name}"))
        if self._prompter is None and not self.reachable:
            return Said(Answer(False, "no_approver"))
        said: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        pending = Pending(petition, time.time() + self._timeout_s, said)
        self._pending[petition.name] = pending
        try:
            return await self._first(pending)
        finally:
            del self._pending[petition.name]

    async def _first(self, pending: Pending) -> Said:
        """The first answer of all who were asked; of two in the same moment, the no."""
        waiting: set[asyncio.Future[Said]] = {pending.said}
        if self._prompter is not None:
            waiting.add(asyncio.ensure_future(self._prompted(self._prompter, pending.petition)))
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            prompts = waiting - {pending.said}
            for prompt in prompts:
                prompt.cancel()
            if prompts:
                await asyncio.wait(prompts, timeout=WITHDRAW_S)
        heard = [Said(Answer(False, "approver_error")) if one.cancelled() else one.result() for one in done]
        return min(
            heard, key=lambda said: said.answer.granted, default=Said(Answer(False, "approval_timeout"))
        )

    async def _prompted(self, prompter: Prompter, petition: Petition) -> Said:
        try:
            reply = await prompter.ask(petition, deadline_s=self._timeout_s)
            if _fault(petition, reply) is None:
                return _heard(reply, "terminal")
        except Exception:  # noqa: BLE001 - whatever it is that broke in there, nobody has said yes
            pass
        return Said(Answer(False, "approver_error", by="terminal"))

    async def _let_stand(self, petition: Petition, said: Said) -> None:
        """Make a grant of an answer with a wider scope, and answer with it who waits for the same."""
        scope = said.answer.scope
        if scope is None or scope == "once":
            return
        grant = await self.grants.give(petition, scope, said.minutes)
        if scope == "always":
            await self._keep(petition)
        for other in self.pending:
            if other.petition.kind == petition.kind and other.petition.binding == petition.binding:
                other.said.set_result(Said(Answer(True, "approved", scope, f"grant {grant.name}")))

    async def _keep(self, petition: Petition) -> None:
        try:
            if self._memory is None:
                raise OSError("there is no place to keep it")
            await asyncio.to_thread(self._memory.keep, petition)
        except (OSError, PolicyError) as exc:
            text = f"the answer stands for this session only, it could not be kept: {exc}"
            await self._recorder.record(Notice(level="warning", code="grants", text=text))


def _fault(petition: Petition, reply: Reply) -> str | None:
    """What is wrong with a reply, which may be anything at all; None when it can be taken."""
    if not isinstance(reply, Reply) or not isinstance(reply.granted, bool):
        return "that is no answer"
    if not reply.granted:
        return None
    if reply.scope not in petition.offers:
        return f"this can be answered {', '.join(petition.offers)}, not {str(reply.scope)[:20]}"
    if reply.scope != "minutes":
        return None
    minutes = reply.minutes
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= MAX_MINUTES:
        return f"minutes are over 0 and at most {MAX_MINUTES}"
    return None


def _heard(reply: Reply, by: str) -> Said:
    if not reply.granted:
        return Said(Answer(False, "denied", None, by))
    return Said(
        Answer(True, "approved", reply.scope, by), reply.minutes if reply.scope == "minutes" else None
    )


def _asked(petition: Petition, timeout_s: float) -> ApprovalAsked:
    return ApprovalAsked(
        approval=petition.name,
        what=petition.kind,
        facts=petition.facts,
        said=petition.said,
        binding=petition.binding,
        call_id=petition.call_id,
        timeout_s=timeout_s,
    )
