"""Policies written in a test, as files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from policies import PolicyError, load


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "my.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def refusal(policy_file: Callable[[str], Path]) -> Callable[[str], PolicyError]:
    """The error that loading a file of this text gives."""

    def load_it(text: str) -> PolicyError:
        with pytest.raises(PolicyError) as caught:
            load(policy_file(text))
        return caught.value

    return load_it
