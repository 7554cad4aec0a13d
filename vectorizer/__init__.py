"""Events -> vector -> candidates -> scores: one implementation, shared by training (replay) and serving (request)."""

from vectorizer.model import ModelArrays
from vectorizer.request import NO_MASK, Candidates, gather, prepare, score, vectorize
from vectorizer.similar import similar_items
from vectorizer.warm import warm_up
from vectorizer.workspace import Workspace

__all__ = [
    "NO_MASK",
    "Candidates",
    "ModelArrays",
    "Workspace",
    "gather",
    "prepare",
    "score",
    "similar_items",
    "vectorize",
    "warm_up",
]
