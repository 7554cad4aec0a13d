"""Training rows of the ranker: what a request at the time of each event would have seen, and what came of it.

No leakage: the events are cut into windows by time. The base model behind a window's rows is fitted on the events
before the window and nothing else (its items and users included), and a row's ring holds the user's events before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.config import BaseConfig, Progress, RankerConfig, no_progress
from training.dataset import Dataset
from training.fit import fit_base
from training.split import window_edges
from vectorizer import ModelArrays, Workspace, gather, vectorize
from vectorizer.features import FEATURE_COUNT
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.request import features


@dataclass(frozen=True)
class TrainingRows:
    """R rows in G groups; each group is one request, with at least one positive."""

    features: NDArray[np.float32]  # (R, F) float32
    labels: NDArray[np.float32]  # (R,) float32, 1 for the item of the event, else 0
    groups: NDArray[np.int64]  # (R,) int64, ascending
    times: NDArray[np.uint32]  # (R,) uint32, time of the event that the row's group belongs to


def training_rows(
    dataset: Dataset, base: BaseConfig, ranker: RankerConfig, progress: Progress = no_progress
) -> TrainingRows:
    """The rows of all windows, in the order of time."""
    edges = window_edges(len(dataset), ranker.window_count, ranker.first_share)
    share = min(1.0, ranker.group_count_max / max(len(dataset) - int(edges[0]), 1))
    return rows_of_windows(dataset, edges, share, base, ranker, progress)


def rows_of_windows(
    dataset: Dataset,
    edges: NDArray[np.int64],
    share: float,
    base: BaseConfig,
    ranker: RankerConfig,
    progress: Progress = no_progress,
) -> TrainingRows:
    """The rows of the windows between `edges` (w + 1,), positions in the order of time; `share` of the events become rows.

    Edges and share follow from how many events there are, and are all that a row takes from after its event: given
    the same of both, what comes later changes no bit of it, and neither does its absence.
    """
    chosen = _chosen_events(int(edges[0]), int(edges[-1]), share, ranker.seed)
    parts: list[_Group] = []
    for window, (begin, end) in enumerate(pairwise(edges)):
        progress("training rows", window, len(edges) - 1)
        targets = chosen[(chosen >= begin) & (chosen < end)]
        if begin > 0 and len(targets):
            model = fit_base(dataset.take(slice(0, int(begin))), base)
            parts += _replay(dataset, targets, model, ranker)
    progress("training rows", len(edges) - 1, len(edges) - 1)
    return _join(parts)


def _chosen_events(begin: int, end: int, share: float, seed: int) -> NDArray[np.int64]:
    # By a hash of the event's own place, not by a draw over all events: what comes later cannot change the choice
    # made before it. Splitmix64 (Steele, Lea and Flood, 2014) spreads neighbouring places.
    positions = np.arange(begin, end, dtype=np.uint64)
    mixed = positions + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53  # in [0, 1)
    return positions[uniform < share].astype(np.int64)


@dataclass(frozen=True)
class _Group:
    features: NDArray[np.float32]  # (r, F)
    labels: NDArray[np.float32]  # (r,)
    time: np.uint32


def _replay(
    dataset: Dataset, targets: NDArray[np.int64], model: ModelArrays, ranker: RankerConfig
) -> list[_Group]:
    workspace = Workspace(model)
    rows_in_model = model.rows_of(dataset.items.keys)
    order, offsets = dataset.by_user()
    place = np.empty(len(dataset), dtype=np.int64)
    place[order] = np.arange(len(dataset))
    groups = []
    for target in targets:
        before = order[offsets[dataset.users[target]] : place[target]]
        row = int(rows_in_model[dataset.rows[target]])
        if row >= 0 and len(before) >= ranker.ring_event_count_min:
            group = _group(dataset, int(target), row, before, rows_in_model, model, workspace, ranker)
            if group is not None:
                groups.append(group)
    return groups


def _group(
    dataset: Dataset,
    target: int,
    row: int,
    before: NDArray[np.int64],
    rows_in_model: NDArray[np.int32],
    model: ModelArrays,
    workspace: Workspace,
    ranker: RankerConfig,
) -> _Group | None:
    seen = rows_in_model[dataset.rows[before]]
    ring = before[-RING_EVENT_COUNT_MAX:]
    rows, codes, times = seen[-RING_EVENT_COUNT_MAX:], dataset.codes[ring], dataset.times[ring]
    vector = vectorize(rows, codes, times, model, workspace)
    found = gather(rows, codes, times, vector, model, workspace, blocked_rows=seen[seen >= 0]).rows
    if row in seen or row not in found or len(found) < 2:
        return None
    now = int(dataset.times[target])
    # Features of all that was found, then a sample: some are relative to the best of the request's candidates.
    matrix = features(found, rows, codes, times, now, vector, model, workspace)
    rng = np.random.default_rng((ranker.seed, target))
    kept = _sample(found, row, ranker.negative_count, rng)
    labels = (found[kept] == row).astype(np.float32)
    return _Group(matrix[:, kept].T.copy(), labels, dataset.times[target])


def _sample(found: NDArray[np.int32], row: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of `row`, first, and of at most `count` others."""
    others = np.flatnonzero(found != row)
    if len(others) > count:
        others = rng.choice(others, count, replace=False, shuffle=False)
    return np.concatenate([np.flatnonzero(found == row), others])


def _join(groups: list[_Group]) -> TrainingRows:
    if not groups:
        empty = np.zeros(0, dtype=np.float32)
        matrix = np.zeros((0, FEATURE_COUNT), dtype=np.float32)
        return TrainingRows(matrix, empty, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint32))
    sizes = np.array([len(group.labels) for group in groups])
    return TrainingRows(
        np.concatenate([group.features for group in groups]),
        np.concatenate([group.labels for group in groups]),
        np.repeat(np.arange(len(groups)), sizes),
        np.repeat(np.array([group.time for group in groups], dtype=np.uint32), sizes),
    )
