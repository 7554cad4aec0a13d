"""What RECO_REDIS_URL may be, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from runtime.redis_url import RedisUrl, parse
from runtime.settings import SettingsError, load_settings


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/1", "rediss://u:p@host", "unix:///run/valkey.sock"])
def test_one_server(url: str) -> None:
    assert parse(url).kind == "one"


def test_sentinels_with_an_account_a_name_and_a_database() -> None:
    assert parse("redis+sentinel://me:s%40crt@one,two:7000,[::1]:7001/shop/3") == RedisUrl(
        "sentinel", (("one", 26_379), ("two", 7_000), ("::1", 7_001)), "shop", 3, "me", "s@crt"
    )


def test_a_cluster() -> None:
    assert parse("redis+cluster://one:7000,two/") == RedisUrl("cluster", (("one", 7_000), ("two", 6_379)))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host", "give redis://"), ("localhost:6379", "give redis://"),
        ("redis://host:port", "Port could not be cast"), ("redis+sentinel://one:26379", "needs the primary's name"),
        ("redis+sentinel://one/shop/first", "a number, not 'first'"), ("redis+sentinel:///shop", "'' is not host:port"),
        ("redis+cluster://one:x", "'one:x' is not host:port"), ("redis+cluster://one,,two", "'' is not host:port"),
        ("redis+cluster://one:0", "is not host:port"), ("redis+cluster://one/1", "no databases"),
        ("redis+cluster://one?ssl=true", "takes no options"), ("rediss+cluster://one", "TLS"),
    ],
)  # fmt: skip
def test_a_wrong_one_is_told(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(url)

    assert words in str(raised.value)


def test_a_wrong_one_does_not_start_and_its_password_is_not_told() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(redis_url="redis+sentinel://me:secret@one")

    assert "RECO_REDIS_URL" in str(raised.value)
    assert "primary's name" in str(raised.value)
    assert "secret" not in str(raised.value)
