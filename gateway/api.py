"""The REST calls: one request in, one gRPC call, one response out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import grpc
from reco.errors.v1 import error_reason_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.body import read_body, too_large
from gateway.edge import REQUEST_ID
from gateway.problems import Problem, body_invalid, field_invalid, from_call, parameter_invalid
from gateway.routes import Binding, RouteTable, decoded, route_table
from gateway.scalars import DecodeError
from gateway.transcode import RequestReader, ResponseWriter
from gateway.upstream import Upstreams
from runtime.limiter import NORMAL, SHEDDABLE

TIMEOUT_HEADER: Final = "x-request-timeout-ms"
PRIORITY_HEADER: Final = "reco-priority"  # also of the calls, where runtime/front.py reads it
TRACE_HEADER: Final = "traceparent"
SERVER_TIMING: Final = "server-timing"  # W3C; runtime/rpc.py sends it
TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?")  # W3C Trace Context
NEEDS_BODY: Final = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class Endpoint:
    """A binding with everything compiled that its calls need."""

    binding: Binding
    reader: RequestReader
    writer: ResponseWriter
    call: grpc.aio.UnaryUnaryMultiCallable[Any, Any]

    async def answer(self, request: Request, variables: dict[str, str]) -> Response:
        """The whole way of one REST request."""
        timeout_ms = timeout_ms_of(request)
        message = await self._message(request, variables)
        try:
            call = self.call(message, timeout=timeout_ms / 1000, metadata=metadata_of(request))
            response, timing = await call, server_timing_of(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            problem = from_call(error, self.binding.upstream, timeout_ms)
            problem.headers |= server_timing_of(error.trailing_metadata())
            raise problem from None
        return Response(self.writer.write(response), 200, timing, "application/json")

    async def _message(self, request: Request, variables: dict[str, str]) -> Any:
        message = self.reader.message_class()
        if self.binding.body:
            body = await read_body(request)
            try:
                self.reader.read_body(message, body)
            except DecodeError as error:
                raise body_invalid(error) from None
            if len(body) * limits.PROTO_GROWTH_MAX > limits.BODY_BYTES_MAX < message.ByteSize():
                raise too_large()
        try:
            self.reader.read_texts(message, self._query(request))
            self.reader.read_texts(message, decoded(variables))
        except DecodeError as error:
            raise parameter_invalid(error) from None
        return message

    def _query(self, request: Request) -> list[tuple[str, str]]:
        raw = request.scope["query_string"]
        if not raw:
            return []
        pairs = parse_query(raw)
        for name, _ in pairs:
            if self.binding.body == "*" or name in self.binding.variables:
                raise DecodeError("stands in the body or the path of this call, not in its query").under(name)
        return pairs


class Api(BaseRoute):
    """Every RPC's routes as one route: what they have in common is decided once."""

    def __init__(self, bindings: list[Binding], upstreams: Upstreams) -> None:
        self._table: RouteTable = route_table(bindings)
        self._endpoints = {id(b): _endpoint(b, upstreams) for b in bindings}
        self._in_flight_count = 0

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Full when the path is ours, with any method: a wrong one is ours to refuse."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
        bindings, variables = self._table.find(path)
        return (Match.FULL, {"bindings": bindings, "variables": variables}) if bindings else (Match.NONE, {})

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        binding = choose(scope["bindings"], request.method)
        scope["route_template"] = binding.template
        sheddable = priority_of(request) == SHEDDABLE
        in_flight_max = limits.IN_FLIGHT_SHEDDABLE_MAX if sheddable else limits.IN_FLIGHT_MAX
        if self._in_flight_count >= in_flight_max:
            raise overloaded(in_flight_max)
        self._in_flight_count += 1
        try:
            response = await self._endpoints[id(binding)].answer(request, scope["variables"])
        finally:
            self._in_flight_count -= 1
        await response(scope, receive, send)


def _endpoint(binding: Binding, upstreams: Upstreams) -> Endpoint:
    reader = RequestReader(binding.rpc.input_type, binding.body)
    return Endpoint(binding, reader, ResponseWriter(binding.rpc.output_type), upstreams.call_of(binding))


def choose(bindings: dict[str, Binding], method: str) -> Binding:
    """The binding for the method, HEAD being a GET without its body; raises Problem 405."""
    binding = bindings.get("GET" if method == "HEAD" else method)
    if binding is None:
        raise method_not_allowed(method, bindings)
    return binding


def method_not_allowed(method: str, allowed: Any) -> Problem:
    names = sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])})
    detail = f"the path is known, but not with {method[:20]}; use {' or '.join(names)}"
    reason = error_reason_pb2.ERROR_REASON_ROUTE_UNKNOWN
    return Problem(405, reason, detail, {"method": method[:20]}, {"Allow": ", ".join(names)})


def overloaded(in_flight_max: int) -> Problem:
    """More calls at once than the gateway takes."""
    metadata = {"in_flight_max": str(in_flight_max), "retry_delay_ms": "1000"}
    detail = f"more than {in_flight_max} calls at once; nothing was done, retry after the delay"
    return Problem(503, error_reason_pb2.ERROR_REASON_OVERLOADED, detail, metadata)


def timeout_ms_of(request: Request) -> int:
    """How long the call may take: the caller's word within the limit, or the default."""
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return limits.TIMEOUT_MS_DEFAULT
    timeout_ms = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= timeout_ms <= limits.TIMEOUT_MS_MAX:
        rule = f"must be whole milliseconds from 1 to {limits.TIMEOUT_MS_MAX}"
        raise field_invalid("X-Request-Timeout-Ms", "header", rule)
    return timeout_ms


def metadata_of(request: Request) -> tuple[tuple[str, str], ...]:
    """What goes along with the call: its request id, its priority, and the trace it belongs to."""
    found = [("x-request-id", request.scope[REQUEST_ID])]
    trace = request.headers.get(TRACE_HEADER, "")
    if TRACE.fullmatch(trace):
        found.append((TRACE_HEADER, trace))
    if priority_of(request) == SHEDDABLE:
        found.append((PRIORITY_HEADER, SHEDDABLE))
    return tuple(found)


def priority_of(request: Request) -> str:
    """Who goes first when there is too much to do; raises Problem 400 for another word."""
    text = request.headers.get(PRIORITY_HEADER, NORMAL)
    if text not in (NORMAL, SHEDDABLE):
        raise field_invalid("Reco-Priority", "header", f"must be {NORMAL} or {SHEDDABLE}")
    return text


def server_timing_of(metadata: Any) -> dict[str, str]:
    """What the service says of where its time went, as a response header; empty when it says nothing."""
    return {name: value for name, value in metadata or () if name == SERVER_TIMING}


def parse_query(raw: bytes) -> list[tuple[str, str]]:
    """The query's names and texts; raises DecodeError when it is too long or not UTF-8."""
    if len(raw) > limits.QUERY_BYTES_MAX:
        raise DecodeError(f"is longer than {limits.QUERY_BYTES_MAX} bytes; use a body").under("query")
    try:
        return parse_qsl(raw.decode(), True, errors="strict", max_num_fields=limits.QUERY_PARAMETERS_MAX)
    except ValueError:
        rule = f"is not percent-encoded UTF-8, or has more than {limits.QUERY_PARAMETERS_MAX} parameters"
        raise DecodeError(rule).under("query") from None
