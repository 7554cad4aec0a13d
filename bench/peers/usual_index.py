"""Retrieval of the usual stack: hnswlib, asked in one of three ways for inner products, ef chosen by recall on real queries.

On 50,000 generated items the reduction to L2 has recall 0.99 at ef 300, where the space `ip` ends at 0.89 whatever its ef, and
unit vectors at 0.67: so a good team takes the first, and it is the default.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.dataset import Dataset

LINKS, BUILD_EF, SEED = 16, 200, 7  # hnswlib's own examples
EFS = (200, 300, 400, 600, 800, 1_200, 1_600, 2_400, 3_200)
QUERY_COUNT = 200  # of the data set's queries; they are users' vectors, in no order
RECALL_COUNT = 200
RECALL_MIN = 0.99  # the engine's aim, so that both answer alike
SPACES = ("ip", "l2", "cosine")
Rows = NDArray[np.int32]


class Index(Protocol):
    """Finds rows of large inner product with a vector."""

    def nearest(self, vector: NDArray[np.float32], count: int) -> Rows:
        """At most `count` rows, best first."""


class Tunable(Index, Protocol):
    """One whose searches may be wider or narrower."""

    ef: int

    def set_ef(self, ef: int) -> None:
        """The width of the search."""


class Exact:
    """Every row is looked at: for tests, and the answer that recall is measured against."""

    def __init__(self, factors: NDArray[np.float32]) -> None:
        self._factors = factors

    def nearest(self, vector: NDArray[np.float32], count: int) -> Rows:
        return np.argsort(-(self._factors @ vector), kind="stable")[:count].astype(np.int32)


class Graph:
    """hnswlib over all rows. `ip`: its inner product; `l2`: one more dimension makes all norms equal (Bachrach et al.,
    2014); `cosine`: unit vectors, of which `ef` are fetched and ordered by inner product."""

    def __init__(
        self, factors: NDArray[np.float32], space: str, cache: Path | None, threads: int = 1
    ) -> None:
        if space not in SPACES:
            raise ValueError(f"the space is {space!r}, it has to be one of {', '.join(SPACES)}")
        hnswlib: Any = import_module("hnswlib")  # built from source, and needed by a graph alone
        self._factors, self._space = factors, space
        self._index: Any = hnswlib.Index(space=space, dim=factors.shape[1] + (space == "l2"))
        path = cache / f"hnswlib-{space}-{LINKS}-{BUILD_EF}.bin" if cache else None
        if path is not None and path.exists():
            self._index.load_index(str(path))
        else:
            self._build(threads)
            self._save(path)
        self._index.set_num_threads(1)
        self.set_ef(RECALL_COUNT)

    @property
    def bytes(self) -> int:
        """What it takes in memory: the rows, and their links."""
        return int(self._index.index_file_size())

    def set_ef(self, ef: int) -> None:
        """The width of the search: of the last stage, hnswlib looks at no fewer than are asked for."""
        self.ef = ef
        self._index.set_ef(ef)

    def nearest(self, vector: NDArray[np.float32], count: int) -> Rows:
        query = np.append(vector, np.float32(0)) if self._space == "l2" else vector
        asked = max(count, self.ef) if self._space == "cosine" else count
        labels, _ = self._index.knn_query(query, k=min(asked, len(self._factors)), num_threads=1)
        rows: Rows = labels[0].astype(np.int32)
        if self._space == "cosine":
            rows = rows[np.argsort(-(self._factors[rows] @ vector), kind="stable")]
        return rows[:count]

    def _build(self, threads: int) -> None:
        rows = self._factors
        if self._space == "l2":
            squares = np.einsum("nd,nd->n", rows, rows)
            rows = np.column_stack([rows, np.sqrt(np.maximum(squares.max() - squares, 0))]).astype(np.float32)
        self._index.init_index(max_elements=len(rows), M=LINKS, ef_construction=BUILD_EF, random_seed=SEED)
        self._index.add_items(rows, np.arange(len(rows)), num_threads=threads)

    def _save(self, path: Path | None) -> None:
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        self._index.save_index(str(half))
        half.replace(path)


def recall(index: Index, data: Dataset, query_count: int = QUERY_COUNT) -> float:
    """The mean share of the exact top 200 that the index finds."""
    shares = [
        len(np.intersect1d(index.nearest(query, truth.size), truth)) / truth.size
        for query, truth in zip(data.queries[:query_count], data.truth[:query_count], strict=True)
    ]
    return float(np.mean(shares))


def choose_ef(graph: Tunable, data: Dataset, recall_min: float = RECALL_MIN) -> float:
    """Sets the smallest ef that has the recall, or the largest there is, and returns the recall it has."""
    found = 0.0
    for ef in EFS:
        graph.set_ef(ef)
        found = recall(graph, data)
        if found >= recall_min:
            break
    return found
