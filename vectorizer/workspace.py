"""Memory that one request at a time works in: allocated once for a thread and a model, never shared."""

from __future__ import annotations

import numpy as np

from vectorizer import limits
from vectorizer.features import FEATURE_COUNT
from vectorizer.model import ModelArrays
from vectorizer.sources import ACCUMULATOR_COUNT


class Workspace:
    """Scratch arrays for one thread; (n, 8) float32 and 9 bytes an item, the rest is constant."""

    def __init__(self, model: ModelArrays) -> None:
        n, d = model.item_count, model.factor_count
        k = limits.CANDIDATE_COUNT_MAX
        self.matrix = np.zeros((d, d), dtype=np.float32)
        self.vector = np.zeros(d, dtype=np.float32)
        self.slow_vector = np.zeros(d, dtype=np.float32)
        self.fast_vector = np.zeros(d, dtype=np.float32)
        self.weights = np.zeros(limits.RING_EVENT_COUNT_MAX, dtype=np.float32)
        self.sums = np.zeros((n, ACCUMULATOR_COUNT), dtype=np.float32)
        self.touched = np.zeros(n, dtype=np.int32)
        self.touched_count = 0
        self.excluded = np.zeros(n, dtype=np.uint8)
        self.marks = np.zeros(n, dtype=np.uint8)
        self.best_rows = np.zeros(limits.PERSONAL_COUNT_MAX, dtype=np.int32)
        self.best_scores = np.zeros(limits.PERSONAL_COUNT_MAX, dtype=np.float32)
        self.candidates = np.zeros(limits.GATHERED_COUNT_MAX, dtype=np.int32)
        self.features = np.zeros((FEATURE_COUNT, k), dtype=np.float32)
        self.leaf = np.zeros(k, dtype=np.int32)
        self.scores = np.zeros(k, dtype=np.float64)
