"""`glob` over a wide tree: all of it is found, level by level, and the loop is left to others meanwhile."""

from __future__ import annotations

import threading

from harness.syscalls import glob
from harness.syscalls.globs import matches


async def test_many_names_are_matched_beside_the_loop_and_few_in_it(call_once, monkeypatch):
    where = {}

    def noted(pattern, path):
        where.setdefault(path.rpartition("/")[0], set()).add(threading.current_thread())
        return matches(pattern, path)

    monkeypatch.setattr(glob, "matches", noted)
    files = {f"/workspace/many/f{number}": "" for number in range(glob.FEW)}
    files |= {f"/workspace/few/d{number}/f": "" for number in range(glob.AT_ONCE * 2 + 1)}
    result = await call_once("glob", {"pattern": "f*", "limit": 5000}, files=files)
    assert result.error is None
    found = [line for line in result.content.splitlines() if "/" in line]
    assert sorted(found) == sorted(path.removeprefix("/workspace/") for path in files)
    assert threading.main_thread() not in where["many"]
    assert where["few/d1"] == {threading.main_thread()}
