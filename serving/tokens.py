"""The two tokens of an answer: the page token (what was shown so far) and the attribution token (which answer it was).

Neither is a secret or a proof: they are checked for damage, not for forgery; a forged one only misleads its own caller.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2

from runtime.errors import CallerError
from serving import limits
from serving.kernels import pack_keys, unpack_keys

VERSION, PAGE_VERSION = 1, 2
LOW_BITS_MAX = 30  # keys are below 2**31
_PAGE_HEAD = struct.Struct(
    "<BIBH"
)  # version, fingerprint of the request, bits that a gap has at least, how many keys
_CHECK = struct.Struct("<I")  # CRC-32 of all before it
_ATTRIBUTION_HEAD = struct.Struct("<B16sI")  # version, random id, unix seconds; the model's version follows
PAGE_BYTES_MAX = limits.TOKEN_CHARS_MAX * 3 // 4 - _PAGE_HEAD.size - _CHECK.size
NO_KEYS: NDArray[np.int32] = np.zeros(0, dtype=np.int32)


def make_page_token(shown: NDArray[np.int32], fingerprint: int) -> str:
    """The token that remembers the keys shown so far, distinct (m,) int32; empty when they no longer fit: then the list ends here.

    Some 9.5 bits an item, so that 5,100 of a million items fit, whichever they are: 250 pages of 20, 25 of 200.
    """
    keys = np.sort(shown)
    low_bits = _low_bits_of(keys)
    out = np.zeros(PAGE_BYTES_MAX, dtype=np.uint8)
    size = pack_keys(keys, low_bits, out)
    if size < 0:
        return ""
    body = _PAGE_HEAD.pack(PAGE_VERSION, fingerprint, low_bits, len(keys)) + out[:size].tobytes()
    return _encode(body + _CHECK.pack(zlib.crc32(body)))


def _low_bits_of(keys: NDArray[np.int32]) -> int:
    # The gap's mean in halves: m keys below n then take at most m (2 + log2(n / m)) bits.
    return int((int(keys[-1]) + 1) // len(keys)).bit_length() - 1 if len(keys) else 0


def read_page_token(token: str, fingerprint: int) -> NDArray[np.int32]:
    """The keys shown so far, ascending (m,) int32; CallerError PAGE_TOKEN_INVALID."""
    if not token:
        return NO_KEYS
    data = _decode(token)
    body, check = data[: -_CHECK.size], data[-_CHECK.size :]
    if len(body) < _PAGE_HEAD.size or body[0] != PAGE_VERSION or _CHECK.pack(zlib.crc32(body)) != check:
        raise _invalid("it was not made by this service, or is damaged")
    _, made_for, low_bits, count = _PAGE_HEAD.unpack_from(body)
    if made_for != fingerprint:
        raise _invalid("it belongs to another request; user, session, surface and filter must stay the same")
    packed = np.frombuffer(body, dtype=np.uint8, offset=_PAGE_HEAD.size)
    keys = np.empty(count, dtype=np.int32)
    if low_bits > LOW_BITS_MAX or not unpack_keys(packed, low_bits, keys):
        raise _invalid("it is damaged")
    return keys


def fingerprint_of(*parts: str) -> int:
    """A number for the fields of a request that have to stay the same from page to page."""
    return zlib.crc32("\0".join(parts).encode())


@dataclass(frozen=True)
class Attribution:
    """What an attribution token says."""

    answer_id: bytes  # 16 random bytes
    time_s: int
    model_version: str


def make_attribution_token(answer_id: bytes, time_s: float, model_version: str) -> str:
    """The token of one answer: at most 114 characters."""
    return _encode(_ATTRIBUTION_HEAD.pack(VERSION, answer_id, int(time_s)) + model_version.encode())


def read_attribution_token(token: str) -> Attribution | None:
    """What the token says; None if it is not ours."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, answer_id, time_s = _ATTRIBUTION_HEAD.unpack_from(data)
        model_version = data[_ATTRIBUTION_HEAD.size :].decode()
    except (binascii.Error, struct.error, UnicodeDecodeError, ValueError):
        return None
    return Attribution(answer_id, time_s, model_version) if version == VERSION else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("it was not made by this service, or is damaged") from None


def _invalid(description: str) -> CallerError:
    message = f"page_token: {description}; start again from the first page"
    return CallerError(error_reason_pb2.ERROR_REASON_PAGE_TOKEN_INVALID, message, {"field": "page_token"})
