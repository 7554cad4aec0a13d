"""The gateway as one ASGI application."""

from __future__ import annotations

from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request

from gateway.api import Api
from gateway.comments import read_comments
from gateway.edge import Edge
from gateway.openapi import openapi_document
from gateway.pages import page_routes
from gateway.probes import probe_routes
from gateway.routes import Binding
from gateway.upstream import Upstreams


def build_app(bindings: list[Binding], upstreams: Upstreams) -> Starlette:
    """The contract's calls, then probes and pages; what is none of them is a 404 as problem+json."""
    document = openapi_document(bindings, read_comments())
    routes = [Api(bindings, upstreams), *probe_routes(upstreams), *page_routes(document)]
    app = Starlette(
        routes=routes, middleware=[Middleware(Edge)], exception_handlers={HTTPException: _to_the_edge}
    )
    app.router.redirect_slashes = False  # a path that is nearly right is wrong
    return app


async def _to_the_edge(request: Request, error: Exception) -> NoReturn:
    """Starlette would answer by itself, in plain text."""
    raise error
