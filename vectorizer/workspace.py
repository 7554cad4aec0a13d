"""Memory that one request at a time works in: allocated once for a thread and a model, never shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectorizer import limits, table
from vectorizer.features import FEATURE_COUNT, QUERY_COUNT
from vectorizer.model import ModelArrays
from vectorizer.sources import ACCUMULATOR_COUNT
from vectorizer.table import SLOT_COUNT


class Workspace:
    """Scratch arrays for one thread: as many bytes whatever the catalogue's size, some 1.5 MB."""

    def __init__(self, model: ModelArrays) -> None:
        padded = -(-model.factor_count // limits.LANE_COUNT) * limits.LANE_COUNT
        k, entries = limits.CANDIDATE_COUNT_MAX, limits.TABLE_ROW_COUNT_MAX
        self.matrix = np.zeros(padded * padded, dtype=np.float32)
        self.item = np.zeros(padded, dtype=np.float32)
        self.roots = np.zeros(padded, dtype=np.float32)
        self.vectors = np.zeros((2, padded), dtype=np.float32)
        self.queries = np.zeros(QUERY_COUNT * padded, dtype=np.float32)
        self.products = np.zeros(QUERY_COUNT, dtype=np.float32)
        self.weights = np.zeros((2, limits.RING_EVENT_COUNT_MAX), dtype=np.float32)
        self.slots = np.zeros((SLOT_COUNT, 2), dtype=np.int32)
        self.state = np.zeros(2, dtype=np.int32)
        self.table_rows = np.zeros(entries, dtype=np.int32)
        self.sums = np.zeros((entries, ACCUMULATOR_COUNT), dtype=np.float32)
        self.bits = np.zeros(entries, dtype=np.uint8)
        self.best_rows = np.zeros(limits.PERSONAL_COUNT_MAX, dtype=np.int32)
        self.keys = np.zeros(limits.KEY_COUNT_MAX, dtype=np.uint64)
        self.spare = np.zeros(limits.PERSONAL_COUNT_MAX, dtype=np.uint64)
        self.personal_rows = np.zeros(limits.PERSONAL_COUNT_MAX, dtype=np.int32)
        self.candidates = np.zeros(limits.CANDIDATE_LIMIT, dtype=np.int32)
        self.places = np.zeros(limits.CANDIDATE_LIMIT, dtype=np.int32)
        self.marks = np.zeros(limits.CANDIDATE_LIMIT, dtype=np.uint8)
        self.features = np.zeros((FEATURE_COUNT, k), dtype=np.float32)
        self.leaf = np.zeros(k, dtype=np.int32)
        self.scores = np.zeros(k, dtype=np.float64)
        table.begin(self.slots, self.state)

    @property
    def table(self) -> tuple[Any, ...]:
        """Slots, state, rows, sums and bits, in the order in which kernels take them."""
        return self.slots, self.state, self.table_rows, self.sums, self.bits
