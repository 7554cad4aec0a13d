"""The log of answers with places that were drawn: what a policy can be judged by that did not choose them.

Each entry of the capped stream `reco:decisions` is one JSON object: who was asked for, by which model and rules, and for each
place the item's key, its score, and with which probability it got the place, given those before. Weighted by one over that, clicks
say what another order would have had (Horvitz and Thompson 1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

DECISIONS_KEY: Final = "reco:decisions"
DECISION_COUNT_MAX: Final = 100_000  # entries of some 700 bytes for a page of 20: 70 MB of Redis


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer of a surface that explores; arrays by place (c,)."""

    answer_id: bytes  # the attribution token's
    subject: str  # empty for nobody in particular
    surface: str
    surfaces_version: str
    model_version: str
    time_s: float
    exploration: float
    candidate_count: int
    shown_count: int  # items on earlier pages
    keys: NDArray[np.int32]
    scores: NDArray[np.float32]
    propensities: NDArray[np.float64]


def encode(draw: Draw) -> bytes:
    """As it stands in the stream."""
    return orjson.dumps(
        {
            "answer": draw.answer_id.hex(),
            "subject": draw.subject,
            "surface": draw.surface,
            "surfaces_version": draw.surfaces_version,
            "model_version": draw.model_version,
            "time_s": draw.time_s,
            "exploration": draw.exploration,
            "candidate_count": draw.candidate_count,
            "shown_count": draw.shown_count,
            "keys": draw.keys,
            "scores": draw.scores,
            "propensities": draw.propensities,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def decode(entry: bytes) -> dict[str, Any]:
    """What `encode` wrote, as plain values."""
    found: dict[str, Any] = orjson.loads(entry)
    return found
