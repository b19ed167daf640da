"""`provider:model`: every form opens its provider, and what is wrong is said before anything is sent."""

from __future__ import annotations

import subprocess
import sys

import pytest
from asking import KEY, reply_of
from services import WIRED
from wire_server import Answer, wire_server

from harness.errors import UsageError
from harness.provider import ProviderError
from harness.providers.anthropic import AnthropicProvider
from harness.providers.models import open_provider, settled
from harness.providers.openai import OpenAIProvider
from harness.providers.openai_chat import OpenAIChatProvider
from harness.providers.scripted import ScriptedProvider
from harness.store import Store

KEYS = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("anthropic:claude-x", AnthropicProvider),
        ("openai:gpt-x", OpenAIProvider),
        ("openai-chat:deepseek/x:free", OpenAIChatProvider),
    ],
)
def test_a_name_opens_its_provider(name, kind):
    provider = open_provider(name, env=KEYS)
    assert isinstance(provider, kind)
    assert f"{provider.name}:{provider.model}" == name


def test_a_script_is_opened_by_its_file(tmp_path):
    script = tmp_path / "with:colon.jsonl"
    script.write_text('{"text": "hi"}\n')
    provider = open_provider(f"scripted:{script}", env={})
    assert isinstance(provider, ScriptedProvider)
    assert provider.model == str(script)


@pytest.mark.parametrize("name", ["", "claude", "gemini:x", ":x", "anthropic:", "scripted: ", "Anthropic:x"])
def test_a_name_that_is_none_says_what_there_is(name):
    with pytest.raises(
        UsageError, match=r"anthropic:MODEL, openai:MODEL, openai-chat:MODEL .*, scripted:FILE, replay:"
    ):
        open_provider(name, env=KEYS)


@pytest.mark.parametrize(("name", "wired"), WIRED.items())
def test_a_missing_key_names_its_variable(name, wired):
    for env in ({}, {wired.variable: " "}):
        with pytest.raises(ProviderError, match=f"set {wired.variable}") as caught:
            open_provider(f"{name}:m", env=env)
        assert caught.value.fault == "auth"


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x/v1", "http://", "http://[::1", "http://x:99999", "x"]
)
def test_a_base_url_that_is_none_is_a_usage_error(url):
    with pytest.raises(UsageError, match="is not a base URL"):
        open_provider("openai-chat:m", base_url=url, env=KEYS)
    with pytest.raises(UsageError, match="ANTHROPIC_BASE_URL"):
        open_provider("anthropic:m", env={**KEYS, "ANTHROPIC_BASE_URL": url})


def test_a_base_url_for_what_asks_no_service_is_a_usage_error():
    with pytest.raises(UsageError, match="asks no service"):
        open_provider("scripted:x", base_url="http://localhost", env={})


async def test_openais_key_goes_to_no_other_chat_server():
    async with wire_server(*[Answer(WIRED["openai-chat"].hello)] * 2) as server:
        for env in (KEYS, {**KEYS, "OPENAI_CHAT_API_KEY": "its-own"}):
            provider = open_provider("openai-chat:m", base_url=server.url, env=env)
            await reply_of(provider)
            await provider.aclose()
    assert [asked.headers["authorization"] for asked in server.asked] == ["bearer none", "bearer its-own"]
    assert KEY not in str([asked.headers for asked in server.asked])


@pytest.mark.parametrize("name", ["anthropic", "openai"])
async def test_a_base_url_from_the_environment_is_used(name):
    async with wire_server(Answer(WIRED[name].hello)) as server:
        provider = open_provider(f"{name}:m", env={**KEYS, f"{name.upper()}_BASE_URL": server.url})
        await reply_of(provider)
        await provider.aclose()
    assert len(server.asked) == 1


def test_a_session_is_found_for_replay_and_a_missing_one_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no session"):
        open_provider("replay:20260101-abcdef", env={"USERMODE_HOME": str(tmp_path / "home")})


def test_opening_a_provider_loads_no_sdk():
    code = (
        "import sys; from harness.providers.models import open_provider; "
        "env = {'ANTHROPIC_API_KEY': 'x', 'OPENAI_API_KEY': 'x'}; "
        "[open_provider(f'{kind}:m', env=env) for kind in ('anthropic', 'openai', 'openai-chat')]; "
        "print(sorted({'anthropic', 'openai', 'httpx', 'httpx2', 'docker', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_is_settled_so_that_it_means_the_same_later_and_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = {"USERMODE_HOME": str(tmp_path / "home")}
    session = Store(tmp_path / "home").new_session()
    assert settled("replay:last", env=env) == settled(f"replay:{session.name[:8]}", env=env)
    assert settled("replay:last", env=env) == f"replay:{session.name}"
    Store(tmp_path / "home").new_session()
    assert settled(f"replay:{session.name}", env=env) == f"replay:{session.name}"
    (tmp_path / "journal.jsonl").touch()
    assert settled("replay:journal.jsonl", env=env) == f"replay:{tmp_path}/journal.jsonl"
    assert settled("scripted:s.jsonl", env=env) == f"scripted:{tmp_path}/s.jsonl"
    assert settled("openai-chat:a/b", env=env) == "openai-chat:a/b"
    for wrong in ("replay:", "scripted: ", "x"):
        assert settled(wrong, env=env) == wrong  # for `open_provider` to refuse
    with pytest.raises(UsageError, match="no session"):
        settled("replay:20260101-abcdef", env=env)
