"""hnswlib by itself: recall@200 over time of a query, one thread, for each of the ways to ask it for inner products.

python -m bench.peers.hnswlib_alone --dataset DIR --core 0        # prints JSON; graphs are kept in the folder
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import bench.dataset
from bench.dataset import Dataset
from bench.peers.usual_index import EFS, QUERY_COUNT, RECALL_COUNT, SPACES, Graph, recall

ROUNDS = 3  # a query's time is the least of so many: what the machine did besides is not hnswlib's


def curve(data: Dataset, graph: Graph) -> list[dict[str, float]]:
    """A point for each ef: recall, and the median and 99th percentile of a query's microseconds."""
    return [_point(data, graph, ef) for ef in EFS]


def _point(data: Dataset, graph: Graph, ef: int) -> dict[str, float]:
    graph.set_ef(ef)
    us = [min(_timed_us(graph, query) for _ in range(ROUNDS)) for query in data.queries[:QUERY_COUNT]]
    return {
        "ef": ef,
        "recall_at_200": recall(graph, data),
        "us_p50": float(np.median(us)),
        "us_p99": float(np.quantile(us, 0.99)),
    }


def _timed_us(graph: Graph, query: np.ndarray) -> float:
    start_s = time.perf_counter()
    graph.nearest(query, RECALL_COUNT)
    return (time.perf_counter() - start_s) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="a folder of bench.data")
    parser.add_argument("--space", choices=SPACES, action="append", help="only these")
    parser.add_argument("--core", type=int, help="query on this core alone")
    options = parser.parse_args()
    data = bench.dataset.read(options.dataset)
    everywhere = os.sched_getaffinity(0)
    found = {}
    for space in options.space or SPACES:
        os.sched_setaffinity(0, everywhere)
        print(f"bench: hnswlib {space}, {data.model.item_count:,} items", file=sys.stderr)
        graph = Graph(data.model.factors, space, options.dataset, len(everywhere))
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        found[space] = curve(data, graph)
    print(json.dumps({"items": data.model.item_count, "curves": found}))


if __name__ == "__main__":
    main()
