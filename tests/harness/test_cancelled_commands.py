"""A command whose call is cancelled never runs on unknown to the model, at whatever moment that is."""

from __future__ import annotations

import asyncio

import pytest
from kernel_double import SlowJournal, bash, calls, policy_with


@pytest.mark.parametrize("moment", ["start", "progress"])
async def test_a_command_does_not_outlive_its_cancelled_call(make_session, moment):
    run = make_session([calls(bash("sleep 60")), "done"], policy=policy_with(yield_s=0.05))
    real, reached = getattr(run.box, moment), asyncio.Event()

    async def slow(*args, **kwargs):
        done = await real(*args, **kwargs)
        reached.set()
        await asyncio.sleep(5)
        return done

    setattr(run.box, moment, slow)
    turn = asyncio.create_task(run.turn())
    await reached.wait()
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    assert [result.error for result in run.results] == ["cancelled"]
    assert not run.session.jobs
    assert not await run.box.jobs()


async def test_a_call_that_is_cancelled_while_it_is_announced_is_announced_once(make_session):
    run = make_session([calls(bash("touch one"), bash("touch two")), "done"], journal=SlowJournal())
    turn = asyncio.create_task(run.turn())
    while "intent:bash" not in run.kinds():
        await asyncio.sleep(0.001)
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    assert run.kinds()[2:] == ["intent:bash", "outcome:bash", "intent:bash", "outcome:bash"]
    assert await run.box.list_dir("/workspace") == [await run.box.stat("/workspace/.keep")]
