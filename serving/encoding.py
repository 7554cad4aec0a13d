"""Answers as protobuf's wire format, joined from bytes: the message classes take five times as long for twenty items.

Only the repeated items are written here (they are what there is most of); everything else of an answer comes from the
message's own serializer. Fields may stand in any order and in parts (protobuf's encoding guide, "last one wins"), so that the
two are simply joined. tests/unit/serving/test_encoding.py holds the bytes to protobuf's own, bit by bit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from reco.ranking.v1.ranking_service_pb2 import Recommendation, RecommendResponse

_LENGTH_DELIMITED, _VARINT, _FIXED64 = 2, 0, 1
_SCORE = struct.Struct("<d")


def _tag(message: type, field: str, kind: int) -> bytes:
    number = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]  # every message has one
    assert number < 16, "a tag of one byte"
    return bytes([number << 3 | kind])


_ITEMS = _tag(RecommendResponse, "items", _LENGTH_DELIMITED)
_ITEM_ID = _tag(Recommendation, "item_id", _LENGTH_DELIMITED)
_SCORE_TAG = _tag(Recommendation, "score", _FIXED64)
_SOURCE_TAG = _tag(Recommendation, "source", _VARINT)
_NO_SCORE = _SCORE.pack(0.0)  # not written, as proto3 has it; -0.0 is


def encoded_items(item_ids: Sequence[bytes], scores: Sequence[float], sources: Iterable[int]) -> bytes:
    """`items` of an answer, in order: ids in utf-8, not empty; sources below 128."""
    parts = []
    for item_id, score, source in zip(item_ids, scores, sources, strict=True):
        packed = _SCORE.pack(score)
        body = _ITEM_ID + _varint(len(item_id)) + item_id
        if packed != _NO_SCORE:
            body += _SCORE_TAG + packed
        if source:
            body += _SOURCE_TAG + bytes((source,))
        parts.append(_ITEMS + _varint(len(body)) + body)
    return b"".join(parts)


_ONE_BYTE = [bytes((value,)) for value in range(128)]


def _varint(value: int) -> bytes:
    if value < 128:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 128:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
