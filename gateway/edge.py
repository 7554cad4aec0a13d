"""Around every request: its id, its time, and the turning of errors into problem+json. Nothing else answers with an error."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any, Final

import structlog
from reco.errors.v1 import error_reason_pb2
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import Problem, internal
from runtime.metrics import GATEWAY_SECONDS

REQUEST_ID: Final = "reco.request_id"
REQUEST_ID_HEADER: Final = "x-request-id"
REQUEST_ID_TEXT = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what is safe in a log line and a header
COMMON_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._timers: dict[tuple[str, str], Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        start_s = time.perf_counter()
        exchange = Exchange(request_id_of(scope), send)
        scope[REQUEST_ID] = exchange.request_id
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            await self._fail(error, exchange, scope, receive)
        route = scope.get("route_template", "other")
        self._timer(route, str(exchange.status)).observe(time.perf_counter() - start_s)

    async def _fail(self, error: Exception, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        problem = problem_of(error, exchange.request_id, scope)
        if exchange.status == 0:  # nothing is sent yet
            await problem.response(exchange.request_id)(scope, receive, exchange.send)

    def _timer(self, route: str, status: str) -> Any:
        key = (route, status)
        if key not in self._timers:  # routes are templates and statuses are few: bounded
            self._timers[key] = GATEWAY_SECONDS.labels(route, status)
        return self._timers[key]


class Exchange:
    """One request's id, and the status that went out."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            names = {name for name, _ in headers}
            headers.append((b"x-request-id", self.request_id.encode()))
            headers.extend(header for header in COMMON_HEADERS if header[0] not in names)
        await self._send(message)


def request_id_of(scope: Scope) -> str:
    """The caller's id if it is fit to be logged, else a new one."""
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if REQUEST_ID_TEXT.fullmatch(given) else uuid.uuid4().hex


def problem_of(error: Exception, request_id: str, scope: Scope) -> Problem:
    """The problem for whatever was raised; what nobody foresaw goes to the log, not to the caller."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _from_starlette(error, scope)
    structlog.get_logger().exception("unexpected error", path=scope["path"], request_id=request_id)
    return internal(request_id)


def _from_starlette(error: HTTPException, scope: Scope) -> Problem:
    path = scope["path"][:200]
    reason = error_reason_pb2.ERROR_REASON_ROUTE_UNKNOWN
    headers = dict(error.headers or {})
    if error.status_code == 405:
        detail = f"the path is known, but not with {scope['method'][:20]}; use {headers.get('Allow', 'GET')}"
        return Problem(405, reason, detail, {"path": path}, headers)
    detail = f"there is nothing at {path}; /openapi.json lists what there is"
    return Problem(error.status_code, reason, detail, {"path": path}, headers)
