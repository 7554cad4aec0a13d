"""Places in the stream as callers hold them: "<partition>:<ms>-<seq>", several joined by ",". Opaque to callers.

Inside, a place is one integer, ms << 16 | seq, so that it fits into eight bytes of a profile and compares as a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reco.errors.v1 import error_reason_pb2

from profiles.limits import SEQUENCE_MAX
from profiles.subjects import partition_of
from runtime.errors import CallerError
from runtime.settings import PARTITION_COUNT_MAX

SEQUENCE_BITS = 16
TOKEN_CHARS_MAX = 4_096  # the contract's bound of minimum_offset (ranking_service.proto)
PLACE_CHARS_MAX = 25  # "127:1800000000000-65535," and one to spare: milliseconds have 13 digits until 2286
_PLACE = re.compile(r"([0-9]{1,3}):([0-9]{1,14})-([0-9]{1,5})")  # ASCII digits

assert PARTITION_COUNT_MAX * PLACE_CHARS_MAX <= TOKEN_CHARS_MAX, "what a write answers can be passed on"
assert (1 << SEQUENCE_BITS) - 1 == SEQUENCE_MAX


def pack_offset(entry_id: bytes | str) -> int:
    """An id of the store, "<ms>-<seq>", as one integer."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    ms, _, seq = text.partition("-")
    return int(ms) << SEQUENCE_BITS | min(int(seq), SEQUENCE_MAX)


def entry_id_of(offset: int) -> str:
    """The store's id of a packed offset."""
    return f"{offset >> SEQUENCE_BITS}-{offset & SEQUENCE_MAX}"


def make_token(offsets: Mapping[int, int]) -> str:
    """The token of packed offsets by partition; "" for none."""
    return ",".join(f"{partition}:{entry_id_of(offsets[partition])}" for partition in sorted(offsets))


def parse_token(token: str) -> dict[int, int]:
    """Packed offsets by partition; the larger of two wins. Raises CallerError OFFSET_INVALID."""
    if len(token) > TOKEN_CHARS_MAX:
        raise _invalid()
    offsets: dict[int, int] = {}
    for place in token.split(",") if token else ():
        match = _PLACE.fullmatch(place)
        if match is None or int(match[3]) > SEQUENCE_MAX:
            raise _invalid()
        partition = int(match[1])
        offsets[partition] = max(offsets.get(partition, 0), int(match[2]) << SEQUENCE_BITS | int(match[3]))
    return offsets


def offset_for(subject: str, token: str, partition_count: int) -> int | None:
    """The packed offset that `token` asks of `subject`'s profile; None when it asks nothing. Raises CallerError."""
    return parse_token(token).get(partition_of(subject, partition_count))


def _invalid() -> CallerError:
    message = "minimum_offset was not made by the ingest service; pass the `offset` of a write unchanged, or leave it out"
    return CallerError(error_reason_pb2.ERROR_REASON_OFFSET_INVALID, message, {"field": "minimum_offset"})
