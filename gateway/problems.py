"""Every error as RFC 9457 problem+json: what went wrong, whose fault it is, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import grpc
import orjson
from google.rpc import code_pb2, error_details_pb2, status_pb2
from reco.errors.v1 import error_reason_pb2
from reco.errors.v1.error_reason_pb2 import ErrorReason
from starlette.responses import Response

from gateway.limits import RETRY_AFTER_S_DEFAULT
from gateway.scalars import DecodeError
from runtime.errors import reason_name

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:reco:problem:"
CLIENT_CLOSED: Final = 499  # nginx's number for it; the registry has none
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

# As google.rpc.Code's comments say.
HTTP_STATUSES: Final[Mapping[int, int]] = {
    code_pb2.CANCELLED: CLIENT_CLOSED,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
}
RETRYABLE: Final = (429, 503)
SNAKE_PATH = re.compile(r"(?:^|(?<=; ))[a-z][\w.]*(?:\[[^\]]*\][\w.]*)*(?=: )")
SNAKE = re.compile(r"_([a-z0-9])(?![^\[]*\])")


class Problem(Exception):  # noqa: N818 -- RFC 9457's word for it
    """An answer that is an error. `reason` is from the contract; `detail` is for people and says what to do."""

    def __init__(
        self,
        status: int,
        reason: ErrorReason.ValueType,
        detail: str,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason_name(reason)
        self.detail = detail
        self.metadata = dict(metadata or {})
        self.headers = dict(headers or {})
        if status in RETRYABLE:
            self.headers.setdefault("Retry-After", str(_retry_after_s(self.metadata)))

    def response(self, request_id: str) -> Response:
        """The answer on the wire."""
        content = {
            "type": TYPE_PREFIX + self.reason,
            "title": title(self.status),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "metadata": self.metadata,
            "request_id": request_id,
        }
        return Response(orjson.dumps(content), self.status, self.headers, MEDIA_TYPE)


def title(status: int) -> str:
    """The status in words."""
    return "Client Closed Request" if status == CLIENT_CLOSED else HTTPStatus(status).phrase


def internal(request_id: str) -> Problem:
    """The answer to what we did not foresee: it tells nothing but where to look."""
    detail = f"our fault: an unexpected error; the log has it under request_id {request_id}"
    return Problem(500, error_reason_pb2.ERROR_REASON_INTERNAL, detail, {"request_id": request_id})


def body_invalid(error: DecodeError) -> Problem:
    """The body does not fit its message."""
    metadata = {"field": error.path, "description": error.description}
    detail = f"{error.path}: {error.description}" if error.path else error.description
    return Problem(400, error_reason_pb2.ERROR_REASON_BODY_INVALID, detail, metadata)


def parameter_invalid(error: DecodeError) -> Problem:
    """A part of the URL or a header does not fit."""
    return field_invalid(error.path, "parameter", error.description)


def field_invalid(field: str, rule: str, description: str) -> Problem:
    """One named thing of the request is wrong."""
    metadata = {"field": field, "rule": rule, "description": description}
    return Problem(400, error_reason_pb2.ERROR_REASON_FIELD_INVALID, f"{field}: {description}", metadata)


def from_call(error: grpc.aio.AioRpcError, service: str, timeout_ms: int) -> Problem:
    """The problem for a failed call: the service's own ErrorInfo where it gave one, ours where gRPC itself failed."""
    info = _error_info(error)
    if info is None:
        return _from_grpc(error, service, timeout_ms)
    metadata = dict(info.metadata)
    detail = error.details() or ""
    if "field" in metadata:
        metadata["field"] = json_path(metadata["field"])
        detail = SNAKE_PATH.sub(lambda found: json_path(found[0]), detail)
    status = HTTP_STATUSES.get(error.code().value[0], 500)
    problem = Problem(status, error_reason_pb2.ERROR_REASON_UNSPECIFIED, detail, metadata)
    problem.reason = info.reason  # also one that this gateway's contract does not know yet
    return problem


def json_path(path: str) -> str:
    """`events[0].item_id` as it stands in JSON, `events[0].itemId`; what is in brackets is data and stays."""
    return SNAKE.sub(lambda found: found[1].upper(), path)


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY:
            info = error_details_pb2.ErrorInfo()
            details = status_pb2.Status.FromString(value).details
            if any(detail.Unpack(info) for detail in details):
                return info
    return None


def _from_grpc(error: grpc.aio.AioRpcError, service: str, timeout_ms: int) -> Problem:
    """What gRPC said by itself, without the service; its words may hold addresses, so they are not passed on."""
    code = error.code().value[0]
    status = HTTP_STATUSES.get(code, 500)
    if code == code_pb2.DEADLINE_EXCEEDED:
        detail = f"{service} did not answer within {timeout_ms} ms; a write may have happened: retry with the same ids"
        metadata = {"timeout_ms": str(timeout_ms)}
        return Problem(status, error_reason_pb2.ERROR_REASON_DEADLINE_EXCEEDED, detail, metadata)
    if code == code_pb2.RESOURCE_EXHAUSTED:
        detail = f"{service} refused: too much at once, or an answer too large; ask for less, then retry"
        return Problem(status, error_reason_pb2.ERROR_REASON_OVERLOADED, detail, {"service": service})
    if code in (code_pb2.UNAVAILABLE, code_pb2.CANCELLED):
        return unavailable(service)
    detail = f"our fault: {service} failed with {error.code().name}; its log says why"
    return Problem(status, error_reason_pb2.ERROR_REASON_INTERNAL, detail, {"service": service})


def unavailable(service: str) -> Problem:
    """The service behind the gateway does not answer."""
    detail = f"no answer from {service}; retry with back-off"
    metadata = {"service": service, "retry_delay_ms": str(RETRY_AFTER_S_DEFAULT * 1000)}
    return Problem(503, error_reason_pb2.ERROR_REASON_SERVICE_UNAVAILABLE, detail, metadata)


def _retry_after_s(metadata: Mapping[str, str]) -> int:
    delay_ms = metadata.get("retry_delay_ms", "")
    return max(1, -(-int(delay_ms) // 1000)) if delay_ms.isdecimal() else RETRY_AFTER_S_DEFAULT
