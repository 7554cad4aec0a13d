"""Reads a request's body, within the limits of size and time."""

from __future__ import annotations

import asyncio

from reco.errors.v1 import error_reason_pb2
from starlette.requests import ClientDisconnect, Request

from gateway.limits import BODY_BYTES_MAX, BODY_WAIT_S_MAX
from gateway.problems import CLIENT_CLOSED, Problem

JSON = "application/json"


async def read_body(request: Request) -> bytes:
    """The body; raises Problem when it is too large (413), too slow (408) or not JSON by its own word (415)."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > BODY_BYTES_MAX:
        raise too_large()
    try:
        async with asyncio.timeout(BODY_WAIT_S_MAX):
            body = await _read(request)
    except TimeoutError:
        detail = (
            f"the body did not arrive within {BODY_WAIT_S_MAX:g} s; send it faster, or in smaller batches"
        )
        raise Problem(408, error_reason_pb2.ERROR_REASON_BODY_INVALID, detail) from None
    except ClientDisconnect:
        reason = error_reason_pb2.ERROR_REASON_BODY_INVALID
        raise Problem(CLIENT_CLOSED, reason, "the caller went away before the body was whole") from None
    if body:
        _check_type(request)
    return body


async def _read(request: Request) -> bytes:
    parts: list[bytes] = []
    byte_count = 0
    async for part in request.stream():
        byte_count += len(part)
        if byte_count > BODY_BYTES_MAX:
            raise too_large()
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large() -> Problem:
    """The body, or what it becomes as protobuf, is larger than the services take."""
    detail = f"the body is larger than {BODY_BYTES_MAX} bytes; send smaller batches"
    metadata = {"bytes_max": str(BODY_BYTES_MAX)}
    return Problem(413, error_reason_pb2.ERROR_REASON_MESSAGE_TOO_LARGE, detail, metadata)


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    kind, _, parameters = given.lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if kind.strip() != JSON or charset not in ("", "charset=utf-8"):
        detail = f"the body's Content-Type must be {JSON} (in UTF-8), not {given[:100]!r}"
        reason = error_reason_pb2.ERROR_REASON_BODY_INVALID
        raise Problem(415, reason, detail, {"content_type": JSON}, {"Accept": JSON})
