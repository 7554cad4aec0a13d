"""`python -m gateway`: REST in, gRPC out."""

from __future__ import annotations

import asyncio
import ipaddress

import structlog

from gateway.app import build_app
from gateway.routes import bindings_of
from gateway.server import listen, serve
from gateway.upstream import Upstreams, targets
from runtime.lifecycle import run
from runtime.settings import Settings, SettingsError


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Binds, serves until `stop` is set, lets go."""
    require_loopback(settings.host)
    bindings = bindings_of()
    upstreams = Upstreams(targets(settings), bindings)
    try:
        listener = listen(settings.host, settings.gateway_port)
        host, port = listener.getsockname()[:2]
        structlog.get_logger().info("gateway answers", host=host, port=port, services=targets(settings))
        await serve(build_app(bindings, upstreams), listener, stop)
    finally:
        await upstreams.close()


def require_loopback(host: str) -> None:
    """Raises SettingsError unless `host` is this machine's own: anybody who reaches the gateway may do anything."""
    if not _is_loopback(host):
        reason = "there is no authentication yet, so the gateway binds loopback only"
        raise SettingsError(f"RECO_HOST: {reason}; use 127.0.0.1, ::1 or localhost (got {host!r})")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    run("gateway", main)
