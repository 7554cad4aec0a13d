"""Errors that say whose fault they are and what to do.

Inside, an error is a `RecoError` with an enumerated reason. On the wire it is a canonical gRPC code plus
`google.rpc.ErrorInfo` (AIP-193); proto/reco/errors/v1 lists the reasons with a sample each.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from reco.errors.v1 import error_reason_pb2
from reco.errors.v1.error_reason_pb2 import ErrorReason

DOMAIN = "reco.dev"
REASON_PREFIX = "ERROR_REASON_"
RETRY_DELAY_MS = "retry_delay_ms"  # of the metadata: when the same call is worth another try


class RecoError(Exception):
    """Something went wrong that we foresaw.

    `reason` is from the contract, `message` is for people and says what to do, `metadata` holds what a program needs.
    """

    code: int = code_pb2.INTERNAL

    def __init__(
        self, reason: ErrorReason.ValueType, message: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})


class CallerError(RecoError):
    """The caller's fault: the same call will fail again."""

    code = code_pb2.INVALID_ARGUMENT


class NotFoundError(CallerError):
    """The caller's fault: what was named is not there."""

    code = code_pb2.NOT_FOUND


class StateError(RecoError):
    """The operator's: the system is not in a state to do this."""

    code = code_pb2.FAILED_PRECONDITION


class OverloadError(RecoError):
    """The operator's: a named limit was met. Retry after `retry_delay_ms` of the metadata."""

    code = code_pb2.RESOURCE_EXHAUSTED


class DeadlineError(RecoError):
    """The caller's, or the operator's: the call's time was over."""

    code = code_pb2.DEADLINE_EXCEEDED


class DependencyError(RecoError):
    """A dependency's fault: a store did not answer. Retry with back-off."""

    code = code_pb2.UNAVAILABLE


def store_unavailable(store: str, cause: BaseException) -> DependencyError:
    """The error for a store that can't be reached. `store` is "redis", "postgres", "lake" or "models"."""
    reason = error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE
    message = (
        f"{store} does not answer ({type(cause).__name__}); nothing was acknowledged, retry with back-off"
    )
    return DependencyError(reason, message, {"store": store, "retry_delay_ms": "500"})


def reason_name(reason: ErrorReason.ValueType) -> str:
    """The name as it travels: without the prefix."""
    return ErrorReason.Name(reason).removeprefix(REASON_PREFIX)


def to_status(error: RecoError) -> status_pb2.Status:
    """The error as google.rpc.Status with one ErrorInfo, and RetryInfo where its metadata has a `retry_delay_ms`."""
    info = error_details_pb2.ErrorInfo(
        reason=reason_name(error.reason), domain=DOMAIN, metadata=error.metadata
    )
    details: list[Message] = [info]
    if RETRY_DELAY_MS in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.metadata[RETRY_DELAY_MS]))
        details.append(retry)
    return status_pb2.Status(code=error.code, message=error.message, details=map(_packed, details))


def _packed(message: Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def internal_status(request_id: str) -> status_pb2.Status:
    """The answer to an error that we did not foresee: it tells nothing but where to look."""
    reason = error_reason_pb2.ERROR_REASON_INTERNAL
    message = f"our fault: an unexpected error; the log has it under request_id {request_id}"
    return to_status(RecoError(reason, message, {"request_id": request_id}))


async def abort(
    context: grpc.aio.ServicerContext[object, object],
    status: status_pb2.Status,
    metadata: tuple[tuple[str, str], ...] = (),
) -> None:
    """Ends the call with `status`, its details and more trailing metadata. Always raises."""
    wire = rpc_status.to_status(status)
    await context.abort(wire.code, wire.details, (*wire.trailing_metadata, *metadata))
