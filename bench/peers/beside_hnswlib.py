"""The engine's retrieval beside hnswlib, on the same rows and queries, in one run: decision 0008's table.

python -m bench.peers.beside_hnswlib --dataset DIR --core 0 --space l2     # prints a table; graphs are built anew

All answer one query at a time on one thread. The plan is chosen by users whose queries are not measured; a graph's ef is the least
that has the recall the engine aims at, or the largest tried.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import bench.dataset
from bench.dataset import Dataset
from bench.peers.usual_index import (
    LINKS,
    QUERY_COUNT,
    RECALL_COUNT,
    SPACES,
    Graph,
    Index,
    Rows,
    choose_ef,
    recall,
)
from retrieval import Retriever, build, in_words
from retrieval.layout import Layout, encode, lay_out
from retrieval.plan import EXACT, HEAD, Plan

HEAD_COUNT, HEAD_SURVIVORS = 20_000, 300  # rows of largest norm that are scanned before the graph of the rest
WIDER = 4  # for a second line of ours: what more recall costs
WITH_HEAD = "head+cosine"
ROUNDS = 5  # a query's time is the least of so many: what the machine did besides is not the search's
Float32 = NDArray[np.float32]
Built = TypeVar("Built")


@dataclass(frozen=True)
class Line:
    """One way to search, and what it is worth."""

    what: str
    recall_at_200: float
    us_least: float  # of all queries
    us_p50: float  # over the queries
    build_s: float
    item_bytes: float  # in memory, beside the float32 factors where it reads those


class Ours:
    """The retriever of a plan, as serving searches it."""

    def __init__(self, data: Dataset, threads: int) -> None:
        factors, norms = np.asarray(data.model.factors), np.asarray(data.model.factor_norms)
        built = build(factors, norms, np.asarray(data.queries[QUERY_COUNT:]), threads)
        self.name = in_words(built.plan)
        self.bytes = sum(array.nbytes for array in built.arrays.values())
        layout = Layout.from_arrays(built.arrays) if built.arrays else None
        self._retriever = Retriever.of(built.plan, layout, factors, norms)

    def widen(self) -> str:
        """Looks at WIDER times as much from now on; returns the widths, none where all is looked at already."""
        plan = self._retriever.plan
        if plan.kind == EXACT:
            return ""
        self._retriever.use(
            replace(plan, head_count=WIDER * plan.head_count, probe_count=WIDER * plan.probe_count)
        )
        return f"{WIDER} times as much"

    def nearest(self, vector: Float32, count: int) -> Rows:
        return self._retriever.search(vector, count)


class HeadAndGraph:
    """The first plan: the rows of largest norm by int8 codes, a graph over unit vectors for the rest, one order for both."""

    def __init__(self, data: Dataset, threads: int) -> None:
        self._factors, norms = np.asarray(data.model.factors), np.asarray(data.model.factor_norms)
        self._count = min(HEAD_COUNT, len(norms) // 2)
        head = np.ascontiguousarray(self._factors[: self._count])
        layout = lay_out(encode(head, norms[: self._count]), self._count, None, head[:0])
        plan = Plan(HEAD, self._count, 0, HEAD_SURVIVORS)
        self._head = Retriever.of(plan, layout, head, norms[: self._count])
        self.graph = Graph(self._factors[self._count :], "cosine", None, threads)
        self.bytes = self.graph.bytes + sum(array.nbytes for array in layout.to_arrays().values())
        self.ef = self.graph.ef

    def set_ef(self, ef: int) -> None:
        self.ef = ef
        self.graph.set_ef(ef)

    def nearest(self, vector: Float32, count: int) -> Rows:
        found = np.concatenate(
            [self._head.search(vector, count), self.graph.nearest(vector, count) + self._count]
        )
        return found[np.argsort(-(self._factors[found] @ vector), kind="stable")][:count].astype(np.int32)


def lines(data: Dataset, spaces: list[str], core: int | None) -> Iterator[Line]:
    """Lines for our plan and a wider one, then one for each space; builds take all cores, queries `core` alone."""
    everywhere = os.sched_getaffinity(0)
    threads = len(everywhere)
    ours, build_s = _built(partial(Ours, data, threads))
    yield _line(f"ours: {ours.name}", ours, data, build_s, ours.bytes, core)
    if wider := ours.widen():
        yield _line(f"ours: {wider}", ours, data, build_s, ours.bytes, core)
    for space in spaces:
        os.sched_setaffinity(0, everywhere)
        graph, build_s = _built(partial(_graph, data, space, threads))
        choose_ef(graph, data)
        yield _line(f"hnswlib {space}, M {LINKS}, ef {graph.ef}", graph, data, build_s, graph.bytes, core)


def _graph(data: Dataset, space: str, threads: int) -> Graph | HeadAndGraph:
    if space == WITH_HEAD:
        return HeadAndGraph(data, threads)
    return Graph(np.asarray(data.model.factors), space, None, threads)


def _built(make: Callable[[], Built]) -> tuple[Built, float]:
    start_s = time.perf_counter()
    return make(), time.perf_counter() - start_s


def _line(what: str, index: Index, data: Dataset, build_s: float, size: int, core: int | None) -> Line:
    if core is not None:
        os.sched_setaffinity(0, {core})
    us = [_least_us(index, query) for query in data.queries[:QUERY_COUNT]]
    share = recall(index, data)
    return Line(what, share, min(us), float(np.median(us)), build_s, size / data.model.item_count)


def _least_us(index: Index, query: Float32) -> float:
    took_s = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        index.nearest(query, RECALL_COUNT)
        took_s.append(time.perf_counter() - start_s)
    return min(took_s) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="a folder of bench.data")
    parser.add_argument("--space", choices=[*SPACES, WITH_HEAD], action="append", help="only these")
    parser.add_argument("--core", type=int, help="query on this core alone")
    options = parser.parse_args()
    data = bench.dataset.read(options.dataset)
    print(f"bench: {data.model.item_count:,} items", file=sys.stderr)
    print(f"| {' | '.join(field.name for field in fields(Line))} |\n|{'---|' * len(fields(Line))}")
    for line in lines(data, options.space or [*SPACES, WITH_HEAD], options.core):
        what, share, *rest = astuple(line)
        print(f"| {what} | {share:.3f} | {' | '.join(f'{value:,.0f}' for value in rest)} |", flush=True)


if __name__ == "__main__":
    main()
