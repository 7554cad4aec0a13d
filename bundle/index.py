"""The nearest-neighbour graph over unit vectors, for catalogues that are too large for an exact scan.

hnswlib in cosine space rather than inner product: under real norms the latter loses up to a third of the answer. What
the graph finds is scored by inner product by whoever asks, so it is asked for more than is needed (design: bands by norm).
"""

from __future__ import annotations

from pathlib import Path

import hnswlib
import numpy as np
from numpy.typing import NDArray

EXACT_ITEMS_MAX = (
    50_000  # an exact float32 scan of so many rows takes 0.3 ms; below, a graph has nothing to win
)
INDEX_FILE = "index"  # the name of the file in a bundle

LINKS = 16  # of a node; recall 0.98 of 200 at ef 200 on unit vectors
BUILD_EF = 200
SEARCH_EF_MIN = 200


def build_index(factors: NDArray[np.float32], path: Path, thread_count: int = 1) -> None:
    """Builds the graph over the rows of `factors` (n, d) float32 that are not zero, and saves it to `path`."""
    labels = np.flatnonzero(np.any(factors != 0, axis=1))
    index = hnswlib.Index(space="cosine", dim=factors.shape[1])
    index.init_index(max_elements=max(len(labels), 1), M=LINKS, ef_construction=BUILD_EF, random_seed=7)
    if len(labels):
        index.add_items(factors[labels], labels, num_threads=thread_count)
    index.save_index(str(path))


class RowIndex:
    """An opened graph: rows near a vector by direction. For one thread at a time."""

    def __init__(self, path: Path, factor_count: int) -> None:
        self._index = hnswlib.Index(space="cosine", dim=factor_count)
        self._index.load_index(str(path))

    def nearest(self, vector: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        """At most `count` rows by falling cosine with `vector` (d,) float32: (k,) int32."""
        count = min(count, self._index.get_current_count())
        if count == 0:
            return np.zeros(0, dtype=np.int32)
        self._index.set_ef(max(count, SEARCH_EF_MIN))
        labels, _ = self._index.knn_query(vector, k=count, num_threads=1)
        return np.asarray(labels[0], dtype=np.int32)
