"""Credentials are taken out of git configuration in one look, whatever the repository's maker wrote there."""

from __future__ import annotations

import pytest

from sandbox.workspace.secretfiles import without_credentials

SIZE = 1 << 18
"""As much as is looked through."""


@pytest.mark.parametrize(
    "run", [b"a", b"token", b"http://", b"a://", b"://a", b"[", b" ", b"\n", b"\\\n", b":"]
)
def test_no_text_takes_long(run):
    long = run * (SIZE // len(run))
    for config in (long, b"://u:" + long, b"[x] token" + long, b"token =" + long):
        assert len(without_credentials(config)) <= len(config) + 50


@pytest.mark.parametrize(
    ("config", "clean"),
    [
        (b"url = https://user:pass@host/x", b"url = https://host/x"),
        (b"url = https://token@host/x", b"url = https://host/x"),
        (b"url = ssh://git:pass@host/x", b"url = ssh://git@host/x"),
        (b"url = 1svn+ssh://git:pass@host/x", b"url = 1svn+ssh://git@host/x"),
        (b"url = git@host:x", b"url = git@host:x"),
        (
            b'[http "https://host/"] extraHeader = A: b',
            b'[http "https://host/"] # a credential was left out of this copy',
        ),
        (b"\tgithub.token = abc\n\tx = 1", b"\t# a credential was left out of this copy\n\tx = 1"),
        (b"smtpPass = a\\\nb\nx = 1", b"# a credential was left out of this copy\nx = 1"),
        (b"name = token", b"name = token"),
    ],
)
def test_what_is_taken_out_and_what_stays(config, clean):
    assert without_credentials(config) == clean
