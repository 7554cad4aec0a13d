"""For CI: costs of kernels over those of well-known ones in the same run, held to bench/guard.json. Never absolute times.

python -m bench.guard                # exit 1 when a ratio is beyond its bound
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from catboost import CatBoostRegressor

from retrieval import Retriever, build
from training.ranker import forest_arrays
from vectorizer.features import FEATURE_COUNT
from vectorizer.forest import score_forest

BOUNDS_FILE = Path(__file__).with_name("guard.json")
ROUNDS = 40  # the least of so many, in turn: what else the machine does hits both sides
ROWS, COUNT, CANDIDATES = 50_000, 200, 200
Work = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    bounds = read_bounds()
    found = ratios()
    for name, ratio in found.items():
        print(f"{name:<36}{ratio:>10.3f}  at most {bounds[name]:g}")
    return 1 if beyond(found, bounds) else 0


def read_bounds() -> dict[str, float]:
    """The largest ratio allowed, by name."""
    bounds: dict[str, float] = json.loads(BOUNDS_FILE.read_text())
    return bounds


def beyond(found: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """Names of the ratios that are too large."""
    return [name for name, ratio in found.items() if ratio > bounds[name]]


def ratios() -> dict[str, float]:
    """Ours over the other, the least time of each."""
    return {
        "retrieval_over_numpy": _ratio(*retrieval_and_numpy()),
        "forest_over_catboost": _ratio(*forest_and_catboost()),
    }


def _ratio(ours: Work, other: Work) -> float:
    ours(), other()  # compiled, and in the caches
    times = [(_timed(ours), _timed(other)) for _ in range(ROUNDS)]
    return min(a for a, _ in times) / min(b for _, b in times)


def _timed(work: Work) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def retrieval_and_numpy() -> tuple[Work, Work]:
    """The best COUNT of ROWS rows: by the retriever's plan, and by numpy's float32 product and argpartition."""
    from bench.generate import factors

    rng = np.random.default_rng(7)
    found = factors.generate(ROWS, 64, "heavy", rng)
    queries = rng.standard_normal((200, 64), dtype=np.float32)
    built = build(found.factors, found.norms, queries[1:])
    retriever = Retriever(built.arrays, built.params, _Factors(found.factors, found.norms))  # type: ignore[arg-type]  # all it reads
    query = queries[0]
    return lambda: retriever.search(query, COUNT), lambda: np.argpartition(-(found.factors @ query), COUNT)[
        :COUNT
    ]


class _Factors:
    def __init__(self, factors: np.ndarray, norms: np.ndarray) -> None:
        self.factors, self.factor_norms = factors, norms


def forest_and_catboost() -> tuple[Work, Work]:
    """Scores of CANDIDATES candidates by 200 trees of depth 6: by our kernel, and by CatBoost's own predict."""
    rng = np.random.default_rng(7)
    matrix = rng.standard_normal((4_000, FEATURE_COUNT)).astype(np.float32)
    model = CatBoostRegressor(
        iterations=200,
        depth=6,
        thread_count=1,
        logging_level="Silent",
        allow_writing_files=False,
        random_seed=7,
    )
    model.fit(matrix, matrix[:, 0] * matrix[:, 1] + matrix[:, 2])
    forest, params = forest_arrays(model)
    rows, scores, leaf = matrix[:CANDIDATES], np.zeros(CANDIDATES), np.zeros(CANDIDATES, dtype=np.int32)
    columns = np.ascontiguousarray(rows.T)
    arrays = forest["forest_features"], forest["forest_borders"], forest["forest_leaves"]

    def ours() -> np.ndarray:
        score_forest(columns, *arrays, float(params["forest_bias"]), leaf, scores)
        return scores

    return ours, lambda: model.predict(rows, thread_count=1)


if __name__ == "__main__":
    raise SystemExit(main())
