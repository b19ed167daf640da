"""A window that one model refused says nothing of another."""

from __future__ import annotations

import pytest
from boot_double import Started

from harness.boot import resume as booting
from harness.boot.resume import ResumeOptions, resume
from harness.events import WindowLearned
from harness.journal.writer import Journal


@pytest.mark.parametrize(("other", "window"), [(False, 5000), (True, None)])
async def test_a_session_taken_up_with_another_model_forgets_it(tmp_path, monkeypatch, other, window):
    started = Started(tmp_path)
    started.says("done")
    await started.run()
    journal = Journal.open(started.sessions[-1].directory)
    await journal.append(WindowLearned(tokens=5000))
    journal.close()
    model = tmp_path / "other.jsonl"
    model.write_bytes(started.script.read_bytes())
    seen = []

    async def live(stack, start):
        seen.append(start.session.memory.window)

    monkeypatch.setattr(booting, "live", live)
    options = ResumeOptions("last", "go on", f"scripted:{model}" if other else "", home=started.home)
    await resume(options, lambda event: None, started.interrupt, machine=started.machine)
    assert seen == [window]
