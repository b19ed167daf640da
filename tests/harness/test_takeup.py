"""Where a rebuilt session goes on, by what became of its container, and what the model is told of that."""

from __future__ import annotations

import pytest
from test_rebuild import made, rebuilt

from harness.recovery.takeup import take_up


@pytest.mark.parametrize(
    ("how", "runs", "told"),
    [
        ("attached", True, None),
        ("reopened", False, "the workspace is as it was left"),
        ("new", False, "the workspace is empty"),
    ],
)
async def test_jobs_end_with_their_container_and_the_model_is_told_of_another_one(
    make_session, how, runs, told
):
    arguments = {"command": "serve", "background": True}
    began = made(1, arguments=arguments, running=True, seen={"stdout": 0, "stderr": 0})
    past = rebuilt(*began, workspace="/home/user/project", task="")
    run = make_session([])
    stand = await take_up(run.kernel, past, how)
    assert [job.runs for job in past.session.jobs.values()] == [runs]
    said = list(stand.turn.args[-1])
    assert [told in text for text in said] == ([True] if told else [])
