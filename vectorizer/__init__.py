"""Events -> vector -> candidates -> scores: one implementation, shared by training (replay) and serving (request)."""

import runtime.kernel_cache  # noqa: F401  # before the first kernel: it says where numba keeps them
from vectorizer.model import ModelArrays
from vectorizer.request import NO_MASK, Candidates, gather, prepare, score, vectorize
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
    "vectorize",
    "warm_up",
]
