"""The graph finds what an exact scan finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.index import RowIndex, build_index

RECALL_MIN = 0.95  # of 50 nearest by cosine among 2,000


def test_nearest_when_compared_with_exact_cosine_keeps_recall(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    factors = random.normal(size=(2_000, 16)).astype(np.float32)
    factors[7] = 0
    build_index(factors, tmp_path / "graph")
    index = RowIndex(tmp_path / "graph", 16)
    unit = factors / np.maximum(np.linalg.norm(factors, axis=1, keepdims=True), 1e-9)
    hits = []
    for vector in random.normal(size=(20, 16)).astype(np.float32):
        exact = np.argsort(-(unit @ vector))[:50]
        hits.append(len(np.intersect1d(exact, index.nearest(vector, 50))) / 50)
    assert np.mean(hits) >= RECALL_MIN


def test_nearest_when_all_factors_are_zero_finds_nothing(tmp_path: Path) -> None:
    build_index(np.zeros((3, 4), dtype=np.float32), tmp_path / "graph")
    assert len(RowIndex(tmp_path / "graph", 4).nearest(np.ones(4, dtype=np.float32), 5)) == 0
