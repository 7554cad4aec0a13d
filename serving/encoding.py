"""Answers as protobuf's wire format, written by a kernel: message objects take five times as long for twenty items.

Only the repeated items are written here (they are what there is most of); everything else of an answer comes from the
message's own serializer. Fields of a message may come in parts that are simply joined (protobuf's encoding guide).
tests/unit/serving/test_encoding.py holds the bytes to protobuf's own, bit by bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import Recommendation, RecommendResponse

from serving.kernels import write_items

_VARINT, _FIXED64, _LENGTH_DELIMITED = 0, 1, 2
ITEM_BYTES_MAX = 33  # of an item beside its id: four tags, two lengths of up to five bytes, a score, a source, a propensity


def _tag(message: type, field: str, kind: int) -> int:
    number = int(message.DESCRIPTOR.fields_by_name[field].number)  # type: ignore[attr-defined]  # every message has one
    assert number < 16, "a tag of one byte"
    return number << 3 | kind


TAGS = np.array(
    [
        _tag(RecommendResponse, "items", _LENGTH_DELIMITED),
        _tag(Recommendation, "item_id", _LENGTH_DELIMITED),
        _tag(Recommendation, "score", _FIXED64),
        _tag(Recommendation, "source", _VARINT),
        _tag(Recommendation, "propensity", _FIXED64),
    ],
    dtype=np.uint8,
)


def encoded_items(
    joined_ids: NDArray[np.uint8],
    scores: NDArray[np.float32],
    sources: NDArray[np.uint8],
    propensities: NDArray[np.float64] | None = None,
) -> bytes:
    """`items` of any answer, in order: ids in utf-8, a NUL between two, none empty; the other arrays (c,), sources < 128."""
    if not len(scores):
        return b""
    out = np.empty(len(joined_ids) + ITEM_BYTES_MAX * len(scores), dtype=np.uint8)
    drawn = np.zeros(len(scores)) if propensities is None else propensities
    bits = scores.astype(np.float64).view(np.uint64), sources, drawn.view(np.uint64)
    return out[: write_items(joined_ids, *bits, TAGS, out)].tobytes()
