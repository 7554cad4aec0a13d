"""One gRPC server for every service: validation, errors, metrics, health, reflection, a bounded stop."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from google.rpc import code_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from reco.errors.v1 import error_reason_pb2

from runtime import frames, metrics
from runtime.errors import (
    CallerError,
    RecoError,
    StateError,
    abort,
    internal_status,
    to_status,
)
from runtime.front import NO_TABLE
from runtime.fronted import front_of, listen
from runtime.limiter import Limiter

MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # 1,000 events of 4 KiB; gRPC's own default, stated
CONNECTION_AGE_MS_MAX = 10 * 60 * 1000  # so that clients outside the mesh find new pods
CALLS_MAX = (
    1_024  # at once; gRPC itself refuses more with RESOURCE_EXHAUSTED, before memory fills with requests
)
STOP_GRACE_S = 20.0  # calls that run may end; shorter than the pod's grace period of 45 s
SERVER_TIMING = "server-timing"  # trailing metadata of every answer; the gateway makes it a header
VIOLATIONS_SHOWN_MAX = 10  # an answer names this many; the first is nearly always the one

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_MS_MAX),
)

_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Holds `message` to the rules of the contract; raises CallerError naming the field and the rule."""
    try:
        _validator.validate(message)
    except protovalidate.ValidationError as error:
        raise _violation_error(error.violations) from None


def _violation_error(violations: Sequence[Any]) -> CallerError:
    shown = [_describe(violation) for violation in violations[:VIOLATIONS_SHOWN_MAX]]
    field, rule, description = shown[0]
    message = "; ".join(f"{name or 'request'}: {text}" for name, _, text in shown)
    metadata = {
        "field": field,
        "rule": rule,
        "description": description,
        "violation_count": str(len(violations)),
    }
    return CallerError(error_reason_pb2.ERROR_REASON_FIELD_INVALID, message, metadata)


def _describe(violation: Any) -> tuple[str, str, str]:
    proto = violation.proto
    return _path(proto.field), proto.rule_id, proto.message or f"breaks the rule {proto.rule_id}"


def _path(field: Any) -> str:
    """`events[3].item_id` from a protovalidate FieldPath; empty when the rule is about the whole message."""
    parts: list[str] = []
    for element in field.elements if field else ():
        subscript = element.subscript
        suffix = f"[{subscript.value!r}]" if subscript else ""
        parts.append(f"{element.field_name}{suffix}")
    return ".".join(parts)


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer with the times of its stages: the edge adds the total and sends both along, see SERVER_TIMING."""

    answer: Message | bytes
    stages: str  # `profile;dur=0.081, select;dur=0.010`: milliseconds, in the syntax of W3C Server-Timing


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Around every unary call: validate the request, time it, and turn errors into statuses with their details.

    Handlers return a message, its serialized bytes, or either in a `Timed`.
    """

    def __init__(self, limiter: Limiter | None = None) -> None:
        self._handlers: dict[str, Any] = {}  # methods that exist, wrapped at their first call
        self._limiter = limiter

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        known = self._handlers.get(details.method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None or handler.response_streaming or details.method.startswith("/grpc."):
            return handler
        wrap = _wrap(details.method.rpartition("/")[2], handler.unary_unary or handler.stream_unary, handler)
        if self._limiter is not None and details.method.encode().startswith(frames.RANKING[0]):
            wrap = _counted(wrap, self._limiter)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        made: Any = make(wrap, handler.request_deserializer, None)
        self._handlers[details.method] = made
        return made


def _wrap(
    method: str, inner: Callable[[Any, Any], Awaitable[Any]], handler: Any
) -> Callable[[Any, Any], Awaitable[bytes]]:
    check = not handler.request_streaming  # a stream's messages are validated as they come, by the service
    serialize = handler.response_serializer
    observe_ok = metrics.RPC_SECONDS.labels(
        method, "OK"
    ).observe  # looked up once: labels() takes a microsecond

    async def call(request: Any, context: Any) -> bytes:
        start_s = time.perf_counter()
        status, code = None, "CANCELLED"  # the caller went away
        try:
            if check:
                validate(request)
            answer: Any = await inner(request, context)
            stages = ""
            if isinstance(answer, Timed):
                answer, stages = answer.answer, answer.stages + ", "
            body = answer if type(answer) is bytes else serialize(answer)
            spent_s, code = time.perf_counter() - start_s, "OK"
            observe_ok(spent_s)
            context.set_trailing_metadata(_timing(spent_s, stages))
            return cast(bytes, body)
        except RecoError as error:
            status = to_status(error)
            code = code_pb2.Code.Name(status.code)
        except Exception:
            request_id = uuid.uuid4().hex
            structlog.get_logger().exception("unexpected error", method=method, request_id=request_id)
            status, code = internal_status(request_id), "INTERNAL"
        finally:
            if code != "OK":
                spent_s = time.perf_counter() - start_s
                metrics.RPC_SECONDS.labels(method, code).observe(spent_s)
        return cast(bytes, await abort(context, status, _timing(spent_s)))

    return call


def _counted(
    call: Callable[[Any, Any], Awaitable[bytes]], limiter: Limiter
) -> Callable[[Any, Any], Awaitable[bytes]]:
    async def counted(request: Any, context: Any) -> bytes:
        limiter.begin(time.perf_counter())
        try:
            return await call(request, context)
        finally:
            limiter.finish()

    return counted


def _timing(spent_s: float, stages: str = "") -> tuple[tuple[str, str], ...]:
    return ((SERVER_TIMING, f"{stages}total;dur={spent_s * 1000:.3f}"),)


async def start_server(
    address: str,
    add_services: Callable[[grpc.aio.Server], list[str]],
    ready: bool = True,
    shares_port: bool = False,
    limiter: Limiter | None = None,
) -> tuple[Stoppable, health.aio.HealthServicer, int]:
    """Starts a server on `address` ("host:port", port 0 chooses one); returns it, its health and its port.

    `add_services` registers the services and returns their full names. Health says SERVING for each, and for "";
    with `ready` false it says NOT_SERVING until the caller sets it. With `shares_port` other processes may listen there
    too, and the kernel gives each connection to one of them. With a `limiter` calls to RankingService are refused while
    too many wait (runtime/front.py). Raises StateError when the address can't be had.
    """
    server = grpc.aio.server(
        interceptors=[EdgeInterceptor(limiter)],
        options=(*OPTIONS, ("grpc.so_reuseport", int(shares_port)), *([NO_TABLE] if limiter else [])),
        maximum_concurrent_rpcs=CALLS_MAX,
    )
    names = add_services(server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    front = front_of(server, limiter) if limiter else None
    port = 0 if front else listen(server, address)
    state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", *names):
        await servicer.set(name, state)
    await server.start()
    if front:
        try:
            port = await front.listen(address, shares_port)
        except StateError:
            await front.stop(None)
            raise
    return front or server, servicer, port


class Stoppable(Protocol):
    """A server that runs: gRPC's, or one behind a front."""

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls, and cuts off those that run after `grace` seconds."""


async def stop_server(server: Stoppable, servicer: health.aio.HealthServicer) -> None:
    """Says NOT_SERVING, lets running calls end within the grace, then stops."""
    await servicer.enter_graceful_shutdown()
    await server.stop(STOP_GRACE_S)
