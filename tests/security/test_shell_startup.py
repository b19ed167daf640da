"""What a command leaves behind for shells to read changes no command that comes after it (E24)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_user import CliUser

pytestmark = pytest.mark.docker

PLANT = r"""
for file in ~/.bashrc ~/.profile ~/.bash_profile ~/.bash_login ~/.bash_logout ~/.inputrc; do
  echo 'echo planted-in-a-file; ls() { echo planted; }' > "$file"
done
cp ~/.bashrc /workspace/rc
export BASH_ENV=/workspace/rc ENV=/workspace/rc PS4='$(echo planted)' PROMPT_COMMAND='echo planted'
export SHELLOPTS
ls() { echo planted-in-a-function; }
export -f ls
alias cat='echo planted-in-an-alias'
set -x
echo sowed
"""


def test_files_functions_and_variables_for_shells_reach_no_later_command(tmp_path: Path) -> None:
    user = CliUser(tmp_path)
    sowed, *later, asked_for = user.session(
        {"command": PLANT},
        {"command": 'ls /workspace; cat /dev/null; env | grep -c BASH_FUNC_; echo "env:$BASH_ENV$ENV"'},
        {"command": "bash -c 'ls /workspace'; sh -c 'ls /workspace'"},
        {"command": "bash -ic true 2>/dev/null"},
    )
    assert "sowed" in sowed.result.content
    for outcome in later:
        assert "planted" not in outcome.result.content
        assert "rc" in outcome.result.content
    # The seed was good: a shell that is told to read it does.
    assert "planted-in-a-file" in asked_for.result.content
    assert "\n0\n" in later[0].result.content
    assert "env:\n" in later[0].result.content + "\n"
