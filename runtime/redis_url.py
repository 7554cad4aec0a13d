"""What RECO_REDIS_URL may be: one server, a primary that sentinels know, or a cluster.

redis://[user:password@]host:port[/db]  rediss://...  unix:///path
redis+sentinel://[user:password@]host:port[,host:port...]/PRIMARY_NAME[/db]
redis+cluster://[user:password@]host:port[,host:port...]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

ONE: Final = ("redis", "rediss", "unix")
PORTS: Final = {"redis+sentinel": 26_379, "redis+cluster": 6_379}
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?")


@dataclass(frozen=True)
class RedisUrl:
    """Where the store is. Sentinels are asked without a password; it is the primary's."""

    kind: Literal["one", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...] = ()  # sentinels, or some of the cluster's nodes
    primary: str = ""  # its name among the sentinels
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse(url: str) -> RedisUrl:
    """What `url` says. Raises ValueError that says what is wrong with it; the password is not told."""
    if url.partition("://")[0] in PORTS:
        # Newer versions of Python's urllib refuse brackets that are not around the only host.
        url = url.replace("[", "%5B").replace("]", "%5D")
    parts = urlsplit(url)
    if parts.scheme in ONE:
        _ = parts.port  # raises where it is none
        return RedisUrl("one")
    if parts.scheme in ("rediss+sentinel", "rediss+cluster"):
        raise ValueError("TLS is there for one server alone (rediss://), not yet with sentinels or a cluster")
    if parts.scheme not in PORTS:
        raise ValueError("give redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if parts.query or parts.fragment:
        raise ValueError(f"{parts.scheme}:// takes no options behind a ? or #")
    account, _, places = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    places = places.replace("%5B", "[").replace("%5D", "]")
    hosts = tuple(_host(place, PORTS[parts.scheme]) for place in places.split(","))
    known: dict[str, Any] = {
        "hosts": hosts,
        "username": unquote(user) or None,
        "password": unquote(password) or None,
    }
    return _sentinel(parts, known) if parts.scheme == "redis+sentinel" else _cluster(parts, known)


def _sentinel(parts: SplitResult, known: dict[str, Any]) -> RedisUrl:
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError(
            "redis+sentinel:// needs the primary's name: redis+sentinel://host:26379,host:26379/NAME"
        )
    if database and not database.isdecimal():
        raise ValueError(f"the database behind the primary's name is a number, not {database!r}")
    return RedisUrl("sentinel", primary=unquote(name), database=int(database or 0), **known)


def _cluster(parts: SplitResult, known: dict[str, Any]) -> RedisUrl:
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has no databases: leave away what is behind the hosts")
    return RedisUrl("cluster", **known)


def _host(place: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(place)
    if found is None or int(found[2] or port) not in range(1, 1 << 16):
        raise ValueError(f"{place!r} is not host:port; several are parted by commas")
    return found[1].strip("[]"), int(found[2] or port)
