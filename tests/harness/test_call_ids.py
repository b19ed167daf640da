"""Calls that a service gave one id: each is made, and each has its own result, now and after a resume."""

from __future__ import annotations

from kernel_double import bash, calls

from harness.memory.rebuild import Rebuild
from harness.messages import Call, Message, Result
from harness.provider import Reply
from harness.providers.scripted import ScriptedProvider
from harness.syscalls.arguments import distinct


class SameIds(ScriptedProvider):
    async def stream(self, request):
        async for delta in super().stream(request):
            if isinstance(delta, Reply):
                parts = tuple(
                    part.model_copy(update={"id": "c"}) if isinstance(part, Call) else part
                    for part in delta.message.parts
                )
                message = delta.message.model_copy(update={"parts": parts})
                delta = Reply(message, delta.usage, delta.stop)
            yield delta


async def says(process):
    await process.out(process.argv[1])
    return 0


async def test_each_has_its_result_also_when_the_session_is_rebuilt(make_session):
    provider = SameIds([calls(bash("say one"), bash("say two"), bash("say three")), "done"])
    run = make_session([], provider=provider, commands={"say": says})
    assert (await run.turn()).status == "done"
    made = [call.id for message in run.session.messages for call in message.calls]
    assert made == ["c", "c_2", "c_3"]
    assert [(result.call_id, result.content.split("\n")[0]) for result in run.results] == [
        ("c", "one"),
        ("c_2", "two"),
        ("c_3", "three"),
    ]
    told = Rebuild()
    for entry in run.journal.entries:
        told.feed(entry)
    again = [part for message in told.messages for part in message.parts if isinstance(part, Result)]
    assert again == run.results


def test_an_id_that_another_call_has_is_not_given():
    parts = tuple(Call(id=one, name="bash") for one in ("c", "c", "c_2"))
    ids = [call.id for call in distinct(Message(role="assistant", parts=parts)).calls]
    assert ids == ["c", "c_3", "c_2"]
