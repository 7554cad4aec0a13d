"""The gateway as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.api import Api
from gateway.edge import Edge
from gateway.probes import probe_routes
from gateway.routes import Binding
from gateway.upstream import Upstreams


def build_app(bindings: list[Binding], upstreams: Upstreams) -> Starlette:
    """The contract's calls, then the probes; what is neither is a 404 as problem+json."""
    routes = [Api(bindings, upstreams), *probe_routes(upstreams)]
    app = Starlette(routes=routes, middleware=[Middleware(Edge)])
    app.router.redirect_slashes = False  # a path that is nearly right is wrong
    return app
