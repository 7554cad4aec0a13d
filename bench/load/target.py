"""Where the load goes, from a URL, and whether it may go there."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

GATEWAY_ROUTE = "/v1/users/{user_id}/recommendations"  # as in proto/reco/ranking/v1/ranking_service.proto
RPCS = {
    "Recommend": "/reco.ranking.v1.RankingService/Recommend",
    "RankItems": "/reco.ranking.v1.RankingService/RankItems",
    "empty": "/grpc.health.v1.Health/Check",
}
ITEMS_DEFAULT = (
    1_000  # generated items that candidates are drawn from, where the URL does not say how many there are
)
PLACEHOLDER = "{user_id}"
METHODS = ("GET", "POST", "PUT")


class TargetError(ValueError):
    """The caller's: the target can't be read, or may not be loaded."""


@dataclass(frozen=True)
class Target:
    """One place to call. `path` is the RPC's for gRPC, else a template in which {user_id} is replaced."""

    scheme: str  # grpc or http
    host: str
    port: int
    path: str
    method: str = "GET"
    body: str = ""  # a template, as `path`
    headers: dict[str, str] = field(default_factory=dict)
    items: int = ITEMS_DEFAULT  # of RankItems

    @property
    def name(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def parse(
    url: str, method: str = "GET", body: str = "", headers: tuple[str, ...] = (), is_owned: bool = False
) -> Target:
    """`grpc://host:port[/Recommend|/RankItems?items=N|/empty]` or `http://host:port[/template]`. Raises TargetError.

    Without a path, gRPC means Recommend and HTTP our gateway's route. Only loopback and private addresses, unless the
    caller says that the host is theirs.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "http"):
        raise TargetError(f"{url!r} starts with neither grpc:// nor http://")
    host, port = _host_and_port(url)
    if not is_owned:
        _hold_to_private(host)
    if parts.scheme == "grpc":
        return Target("grpc", host, port, _rpc(parts.path.strip("/")), items=_items(parts.query))
    if method not in METHODS:
        raise TargetError(f"the method is {method!r}, it has to be one of {', '.join(METHODS)}")
    path = (parts.path if parts.path.strip("/") else GATEWAY_ROUTE) + (
        f"?{parts.query}" if parts.query else ""
    )
    return Target("http", host, port, path, method, body, _headers(headers))


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TargetError(f"{url!r} has no readable host and port: {error}") from None
    if not host or not port:
        raise TargetError(f"{url!r} has to name a host and a port, as in grpc://127.0.0.1:8082")
    return host, port


def _rpc(name: str) -> str:
    if name and name not in RPCS:
        raise TargetError(f"/{name} is no known call, it has to be one of /{', /'.join(RPCS)}")
    return RPCS[name or "Recommend"]


def _items(query: str) -> int:
    found = parse_qs(query)
    texts = found.pop("items", [str(ITEMS_DEFAULT)])
    if found or len(texts) != 1 or not texts[0].isdigit() or int(texts[0]) < 1:
        raise TargetError(f"?{query} has to be ?items=N, how many generated items there are")
    return int(texts[0])


def _headers(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or {"\r", "\n"} & set(text):
            raise TargetError(f"the header {text!r} has to look like 'Name: value'")
        found[name.strip()] = value.strip()
    return found


def _hold_to_private(host: str) -> None:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise TargetError(f"{host} has no address: {error}") from None
    for address in sorted(found):
        if not ipaddress.ip_address(address.partition("%")[0]).is_private:
            raise TargetError(
                f"{host} is {address}, neither loopback nor private: load goes only to hosts of one's own; "
                "add --i-own-this-host if it is yours"
            )
