"""A model in another order, or without what no request reads, answers the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.integration.serving.models import make_model
from training.fit import LIST_ENTRIES_MAX, LIST_LENGTH_MIN, list_length
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.model import BUCKET_EDGE_COUNT
from vectorizer.request import features

KEYS = np.arange(100, 400, 3, dtype=np.int32)
NOW = 2_000_000


def model(seed: int = 3, bucket_count: int = 3) -> ModelArrays:
    random = np.random.default_rng(seed)
    made = make_model(KEYS, seed)
    counts = np.cumsum(random.integers(0, 9, (len(KEYS), bucket_count + 1)), axis=1).astype(np.float32)
    factors = made.factors * random.lognormal(0, 1, (len(KEYS), 1)).astype(np.float32)
    factors[7] = 0
    return replace(
        made, factors=factors, factor_norms=np.linalg.norm(factors, axis=1).astype(np.float32),
        popularity=random.random(len(KEYS)).astype(np.float32), popularity_order=random.permutation(len(KEYS)).astype(np.int32),
        first_times=random.integers(0, NOW, len(KEYS)).astype(np.uint32), bucket_counts=counts, bucket_totals=counts.sum(axis=0),
        liking=random.random(len(KEYS)).astype(np.float32), released=random.integers(1900, 2020, len(KEYS)).astype(np.float32),
    )  # fmt: skip


def answer(made: ModelArrays, ring_keys: list[int]) -> tuple[dict[int, int], dict[int, float]]:
    """Sources and scores by key."""
    rows, workspace = made.rows_of(np.array(ring_keys, np.int32)), Workspace(made)
    codes, times = (
        np.full(len(rows), 2, np.uint8),
        np.arange(len(rows), dtype=np.uint32) + np.uint32(1_000_000),
    )
    vector = vectorize(rows, codes, times, made, workspace)
    found = gather(rows, codes, times, vector, made, workspace)
    scores = score(found.rows, rows, codes, times, NOW, vector, made, workspace)
    keys = made.item_keys[found.rows].tolist()
    return dict(zip(keys, found.sources.tolist(), strict=True)), dict(zip(keys, scores.tolist(), strict=True))


def test_by_norm_stands_by_falling_norm_and_knows_the_same_items() -> None:
    made = model()
    moved = made.by_norm()
    assert (np.diff(moved.factor_norms) <= 0).all()
    assert sorted(moved.item_keys.tolist()) == KEYS.tolist()
    for key in (100, 103, 397):
        old, new = made.rows_of(np.array([key], np.int32)), moved.rows_of(np.array([key], np.int32))
        for name in (
            "factors",
            "popularity",
            "liking",
            "released",
            "first_times",
            "bucket_counts",
            "categories",
        ):
            assert (getattr(made, name)[old] == getattr(moved, name)[new]).all()
        assert (made.item_keys[made.neighbours[old]] == moved.item_keys[moved.neighbours[new]]).all()
    assert (made.item_keys[made.popularity_order] == moved.item_keys[moved.popularity_order]).all()


@pytest.mark.parametrize("ring_keys", [[100], [103, 397, 250], [5, 103, 106, 109], list(range(100, 292, 3))])
def test_by_norm_answers_the_same_by_key(ring_keys: list[int]) -> None:
    made = model()
    assert answer(made.by_norm(), ring_keys) == answer(made, ring_keys)


def test_by_norm_when_lists_are_short_keeps_their_ends() -> None:
    made = model()
    neighbours = made.neighbours.copy()
    neighbours[:, 2:] = -1
    moved = replace(made, neighbours=neighbours).by_norm()
    assert (moved.neighbours[:, 2:] == -1).all()
    assert (moved.neighbours[:, :2] >= 0).all()


def test_by_norm_twice_is_by_norm_once() -> None:
    once = model().by_norm()
    for name, array in once.by_norm().to_arrays().items():
        assert (array == once.to_arrays()[name]).all()


def test_rows_of_when_keys_are_unknown_is_minus_one() -> None:
    moved = model().by_norm()
    assert moved.rows_of(np.array([0, 101, 9_999, 2**28 - 1], np.int32)).tolist() == [-1] * 4
    known = moved.item_keys[[3, 50, 0]]
    assert moved.rows_of(known).tolist() == [3, 50, 0]


@pytest.mark.parametrize("after_s", [0, 1, 100_000])
def test_trimmed_computes_the_same_features_after_training(after_s: int) -> None:
    made = model(bucket_count=20)
    until_s = int(made.params["bucket_start_s"]) + 20 * int(made.params["bucket_width_s"]) - 1
    small = made.trimmed()
    rows = made.rows_of(np.array([103, 250], np.int32))
    codes, times = np.full(2, 2, np.uint8), np.array([900_000, 900_100], np.uint32)
    found = []
    for each in (made, small):
        workspace = Workspace(each)
        vector = vectorize(rows, codes, times, each, workspace)
        candidates = gather(rows, codes, times, vector, each, workspace).rows
        found.append(
            features(candidates, rows, codes, times, until_s + after_s, vector, each, workspace).copy()
        )
    assert small.bucket_counts.shape == (len(KEYS), BUCKET_EDGE_COUNT)
    np.testing.assert_array_equal(*found)


def test_trimmed_when_there_are_few_buckets_is_the_same_model() -> None:
    made = model(bucket_count=BUCKET_EDGE_COUNT - 1)
    assert made.trimmed() is made


@pytest.mark.parametrize(
    ("item_count", "length"),
    [(0, 100), (1_000, 100), (200_000, 100), (400_000, 50), (1_000_000, 20), (50_000_000, LIST_LENGTH_MIN)],
)
def test_list_length_shrinks_with_the_catalogue(item_count: int, length: int) -> None:
    assert list_length(100, item_count) == length
    assert length * item_count <= max(LIST_ENTRIES_MAX, LIST_LENGTH_MIN * item_count)
