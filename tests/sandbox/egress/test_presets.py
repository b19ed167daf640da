"""Presets are read from the tools; here the tools are functions that say what a tool may say."""

from __future__ import annotations

import subprocess

import pytest

from policies.schema import Network, Policy
from sandbox.egress.presets import ask, expand, read
from sandbox.errors import SandboxRefused


def tools(pip: str = "", npm: str = "", apt: str = ""):
    def answer(argv: list[str]) -> str:
        if "pip" in argv:
            return pip
        if "-c" in argv:
            return "https://index.test/simple\nhttps://files.test\n"
        return npm if argv[0] == "npm" else apt

    return answer


def test_pip_without_a_configuration_means_its_own_default_and_where_its_files_are() -> None:
    assert read("@pip", tools()).entries == ("index.test:443", "files.test:443")


def test_a_configured_index_counts_instead_and_its_password_stays_here() -> None:
    config = (
        "global.index-url='https://user:pw@mirror.test:8443/simple'\n"
        "global.extra-index-url='http://more.test/simple file:///opt/index'\n"
    )
    preset = read("@pip", tools(config))
    assert preset.entries == ("mirror.test:8443", "more.test:80")
    assert preset.environment == {
        "PIP_INDEX_URL": "https://mirror.test:8443/simple",
        "PIP_EXTRA_INDEX_URL": "http://more.test/simple",
    }


def test_an_environment_beats_a_file() -> None:
    config = "global.index-url='https://a.test/s'\n:env:.index-url='https://b.test/s'\n"
    assert read("@pip", tools(config)).entries == ("b.test:443",)


def test_npm_and_apt_are_asked_too() -> None:
    said = tools(npm="https://packages.test/\n", apt="http://deb.test\nhttp://deb.test\nhttps://more.test\n")
    assert read("@npm", said).entries == ("packages.test:443",)
    assert read("@npm", said).environment == {"NPM_CONFIG_REGISTRY": "https://packages.test/"}
    assert read("@apt", said).entries == ("deb.test:80", "more.test:443")


@pytest.mark.parametrize(
    "said", ["", "ssh://host.test/x\n", "https:///nothing\n", "https://b\u00fccher.test/\n"]
)
def test_a_tool_that_names_no_plain_host_is_an_error_and_not_an_empty_list(said: str) -> None:
    with pytest.raises(SandboxRefused, match=r"@npm: .*network\.allow"):
        read("@npm", tools(npm=said))


@pytest.mark.parametrize("error", [FileNotFoundError("npm"), subprocess.TimeoutExpired("npm", 20)])
def test_a_tool_that_is_not_here_is_an_error(error: Exception) -> None:
    def missing(argv: list[str]) -> str:
        raise error

    with pytest.raises(SandboxRefused, match="@npm"):
        read("@npm", missing)


async def test_a_policy_is_expanded_in_place_and_otherwise_kept() -> None:
    policy = Policy(name="p", network=Network(allow=("a.test", "@pip", "b.test:8080"), ask=True))
    expanded, environment = await expand(policy, tools("global.index-url='https://m.test/s'\n"))
    assert expanded.network.allow == ("a.test", "m.test:443", "b.test:8080")
    assert expanded.network.ask
    assert environment == {"PIP_INDEX_URL": "https://m.test/s"}
    assert policy.network.allow[1] == "@pip"


async def test_the_real_pip_of_this_machine_names_at_least_one_host() -> None:
    policy = Policy(name="p", network=Network(allow=("@pip",)))
    expanded, _ = await expand(policy, ask)
    assert expanded.network.allow
    assert not any(entry.startswith("@") for entry in expanded.network.allow)
