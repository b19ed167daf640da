"""A value goes to its one host, in its one header, once its use is approved. All else gets a sentinel."""

from __future__ import annotations

import base64

import pytest

from policies.schema import Secret
from sandbox.egress.bound import BoundSecrets
from sandbox.errors import SandboxRefused

VALUE = "ghx_0123456789abcdef"


def bound(*secrets: Secret) -> BoundSecrets:
    return BoundSecrets(
        secrets or [Secret(name="TOKEN", host="api.test")], {"TOKEN": VALUE, "OTHER": "another-value"}
    )


def test_inside_stands_a_sentinel_of_the_same_length() -> None:
    secrets = bound()
    assert secrets.environment["TOKEN"] != VALUE
    assert len(secrets.environment["TOKEN"]) == len(VALUE)


def test_the_value_takes_the_sentinels_place_toward_its_host() -> None:
    secrets = bound()
    sentinel = secrets.environment["TOKEN"].encode()
    headers = [(b"host", b"api.test"), (b"authorization", b"Bearer " + sentinel)]
    assert secrets.inject("api.test", headers)[1] == (b"authorization", b"Bearer " + VALUE.encode())


def test_inside_basic_credentials_too() -> None:
    secrets = bound()
    plain = b"user:" + secrets.environment["TOKEN"].encode()
    [(_, value)] = secrets.inject("api.test", [(b"Authorization", b"Basic " + base64.b64encode(plain))])
    assert base64.b64decode(value.removeprefix(b"Basic ")) == b"user:" + VALUE.encode()


@pytest.mark.parametrize(
    "host", ["evil.test", "api.test.evil.test", "xapi.test", "sub.api.test", "127.0.0.1"]
)
def test_no_other_host_gets_it(host: str) -> None:
    secrets = bound()
    headers = [(b"authorization", b"Bearer " + secrets.environment["TOKEN"].encode())]
    assert secrets.inject(host, headers) == headers


@pytest.mark.parametrize("name", [b"x-other", b"cookie", b"host", b"authorization2"])
def test_no_other_header_gets_it(name: bytes) -> None:
    secrets = bound()
    headers = [(name, secrets.environment["TOKEN"].encode())]
    assert secrets.inject("api.test", headers) == headers


def test_one_that_must_be_asked_for_is_held_until_then_and_again_afterwards() -> None:
    secrets = bound(Secret(name="TOKEN", host="api.test", ask=True))
    headers = [(b"authorization", secrets.environment["TOKEN"].encode())]
    assert secrets.inject("api.test", headers) == headers
    assert secrets.wanted("api.test", headers) == ["TOKEN"]
    assert secrets.wanted("other.test", headers) == []
    secrets.release("TOKEN")
    assert secrets.inject("api.test", headers) == [(b"authorization", VALUE.encode())]
    secrets.withhold("TOKEN")
    assert secrets.inject("api.test", headers) == headers


def test_an_echo_is_masked() -> None:
    secrets = bound()
    assert (
        secrets.mask().whole(b"you sent " + VALUE.encode())
        == b"you sent " + secrets.environment["TOKEN"].encode()
    )


@pytest.mark.parametrize("environ", [{}, {"TOKEN": ""}, {"TOKEN": "tiny"}, {"TOKEN": "two words here"}])
def test_what_is_missing_or_no_secret_stops_the_start_and_is_not_shown(environ: dict[str, str]) -> None:
    with pytest.raises(SandboxRefused, match="TOKEN") as caught:
        BoundSecrets([Secret(name="TOKEN", host="api.test")], environ)
    assert not any(value and value in str(caught.value) for value in environ.values())


def test_an_unknown_name_cannot_be_released() -> None:
    with pytest.raises(KeyError):
        bound().release("NOTHING")


def test_a_sentinel_of_before_stands_on_where_it_fits() -> None:
    secret = [Secret(name="TOKEN", host="api.test")]
    before = bound().environment
    assert BoundSecrets(secret, {"TOKEN": VALUE}, before).environment == before
    # Of another length, not a sentinel at all, or the value itself: a new one.
    for other in ("x", "‹redacted:TOKEN›", "y" * 19 + "!", VALUE):
        again = BoundSecrets(secret, {"TOKEN": VALUE}, {"TOKEN": other}).environment["TOKEN"]
        assert again not in (other, VALUE)
        assert len(again) == len(VALUE)
