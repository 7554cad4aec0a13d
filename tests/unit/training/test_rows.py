"""A training row knows what came before it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.training.synthetic import BASE, RANKER, dataset_of, synthetic_dataset
from training.dataset import Dataset, Items
from training.rows import TrainingRows, rows_of_windows, training_rows
from training.split import window_edges
from vectorizer.features import FEATURE_COUNT


def _future_altered(dataset: Dataset, cut: int, seed: int = 9) -> Dataset:
    """Other users do other things with other items, some of them new, at other times: from event `cut` on."""
    rng = np.random.default_rng(seed)
    later = len(dataset) - cut
    new_keys = (
        np.arange(5, dtype=np.int32) * 30 + 1
    )  # interleaved with the known ones: every row number moves
    keys = np.sort(np.concatenate([dataset.items.keys, new_keys])).astype(np.int32)
    at = np.searchsorted(keys, dataset.items.keys)
    categories, released = np.ones(len(keys), dtype=np.uint64), np.full(len(keys), 2000, dtype=np.float32)
    categories[at], released[at] = dataset.items.categories, dataset.items.released
    rows, users = at[dataset.rows].astype(np.int32), dataset.users.copy()
    codes, times = dataset.codes.copy(), dataset.times.copy()
    rows[cut:] = rng.integers(0, len(keys), later)
    users[cut:] = rng.integers(0, dataset.user_count + 3, later)
    codes[cut:] = rng.integers(1, 9, later)
    times[cut:] = times[cut - 1] + np.sort(rng.integers(1, 10_000_000, later)).astype(np.uint32)
    items = Items(keys, categories, released)
    return replace(
        dataset,
        rows=rows,
        users=users,
        codes=codes,
        times=times,
        items=items,
        user_count=dataset.user_count + 3,
    )


def _until(rows: TrainingRows, time: int) -> tuple[np.ndarray, ...]:
    past = rows.times <= time
    return rows.features[past], rows.labels[past], rows.groups[past], rows.times[past]


@pytest.mark.parametrize("share", [0.45, 0.6, 0.85])
def test_training_rows_when_the_future_is_altered_are_bit_identical_until_then(share):
    dataset = synthetic_dataset()
    cut = int(len(dataset) * share)
    while dataset.times[cut] == dataset.times[cut - 1]:
        cut += 1
    altered = _future_altered(dataset, cut)
    until = int(dataset.times[cut - 1])
    before = _until(training_rows(dataset, BASE, RANKER), until)
    after = _until(training_rows(altered, BASE, RANKER), until)
    assert len(before[1]) > 100
    for left, right in zip(before, after, strict=True):
        assert left.tobytes() == right.tobytes()


def test_rows_of_windows_when_the_future_is_cut_off_are_bit_identical():
    # Edges and share are a function of the number of events; given them, nothing at all is known of what comes later.
    dataset = synthetic_dataset()
    edges = window_edges(len(dataset), RANKER.window_count, RANKER.first_share)
    whole = rows_of_windows(dataset, edges, 0.5, BASE, RANKER)
    for window in range(1, len(edges)):
        past = dataset.take(slice(0, int(edges[window])))
        known = rows_of_windows(past.compact(), edges[: window + 1], 0.5, BASE, RANKER)
        count = len(known.labels)
        assert count > 20
        assert whole.features[:count].tobytes() == known.features.tobytes()
        assert whole.labels[:count].tobytes() == known.labels.tobytes()
    assert count == len(whole.labels)


def test_training_rows_when_the_past_is_altered_change():
    # The other side of the test above: it would also pass if the features said nothing at all.
    dataset = synthetic_dataset()
    altered = _future_altered(dataset, len(dataset) // 10)
    last = int(dataset.times[-1])
    before, after = (_until(training_rows(each, BASE, RANKER), last) for each in (dataset, altered))
    assert before[0].tobytes() != after[0].tobytes()


def test_training_rows_when_groups_are_formed_hold_one_positive_each():
    rows = training_rows(synthetic_dataset(), BASE, RANKER)
    assert rows.features.shape == (len(rows.labels), FEATURE_COUNT)
    assert np.isfinite(rows.features).all()
    assert (np.bincount(rows.groups, weights=rows.labels) == 1).all()
    assert np.bincount(rows.groups).max() <= RANKER.negative_count + 1
    assert (np.diff(rows.groups) >= 0).all()


def test_training_rows_when_there_is_one_event_are_empty():
    rows = training_rows(dataset_of([0], [0], [5]), BASE, RANKER)
    assert rows.features.shape == (0, FEATURE_COUNT)


def test_training_rows_when_groups_are_sampled_keep_the_features_of_the_whole_request():
    # A request scores all that was gathered: features relative to its best must not be relative to the sample's.
    dataset = synthetic_dataset()
    few, all_of_them = (
        training_rows(dataset, BASE, replace(RANKER, negative_count=count)) for count in (3, 500)
    )
    whole = {row.tobytes() for row in all_of_them.features}
    assert np.bincount(few.groups).max() == 4
    assert len(few.labels) < len(all_of_them.labels)
    assert all(row.tobytes() in whole for row in few.features)
