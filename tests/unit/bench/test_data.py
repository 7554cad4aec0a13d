"""The generator: the same seed gives the same bytes, norms are as asked, the exact answer is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.dataset import read
from bench.generate import attributes, factors, lists, model, users
from bench.generate.truth import exact_top
from bench.options import Options
from profiles.limits import PROFILE_BYTES_MAX

ITEMS = 4_000


def _catalogue(norms: str = "heavy", seed: int = 7, items: int = ITEMS) -> factors.Catalogue:
    return factors.generate(items, 16, norms, np.random.default_rng(seed))


def test_heavy_norms_when_generated_have_the_median_and_tail_of_real_factors() -> None:
    norms = _catalogue(items=40_000).norms
    assert np.quantile(norms, 0.5) == pytest.approx(factors.NORM_MEDIAN, rel=0.05)
    assert np.quantile(norms, 0.99) == pytest.approx(factors.NORM_P99, rel=0.05)
    assert norms[0] < factors.NORM_MAX


def test_norms_when_flat_are_narrow_and_when_equal_are_one() -> None:
    flat = _catalogue("flat").norms
    assert np.quantile(flat, 0.99) / np.quantile(flat, 0.5) < 1.6
    assert np.all(_catalogue("equal").norms == 1)


def test_catalogue_when_generated_has_rows_by_falling_norm_that_are_their_factors_norms() -> None:
    found = _catalogue()
    assert np.all(np.diff(found.norms) <= 0)
    assert np.allclose(np.linalg.norm(found.factors, axis=1), found.norms, rtol=1e-5)
    assert found.popularity.sum() == pytest.approx(1, abs=1e-4)


def test_catalogue_when_the_seed_is_the_same_is_the_same_and_else_is_not() -> None:
    assert np.array_equal(_catalogue().factors, _catalogue().factors)
    assert not np.array_equal(_catalogue().factors, _catalogue(seed=8).factors)


def test_users_when_generated_have_1_to_100_events_in_the_order_of_time() -> None:
    events = users.generate(_catalogue(), 500, np.random.default_rng(1))
    counts = np.diff(events.offsets)
    assert counts.min() == 1
    assert 64 < counts.max() <= users.EVENTS_MAX
    assert all(np.all(np.diff(events.times[events.of(user)].astype(np.int64)) > 0) for user in range(500))
    assert events.times.max() <= users.UNTIL_S


def test_lists_when_generated_hold_distinct_items_of_the_same_cluster_and_never_the_item_itself() -> None:
    catalogue = _catalogue()
    found, weights = lists.generate(catalogue, 20, np.random.default_rng(1))
    for row in range(0, ITEMS, 97):
        known = found[row][found[row] >= 0]
        assert len(set(known.tolist())) == len(known) > 0
        assert row not in known
        assert set(catalogue.clusters[known]) == {catalogue.clusters[row]}
    assert np.array_equal(found < 0, weights == 0)


def test_exact_top_when_norms_allow_leaving_blocks_out_is_that_of_a_whole_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.generate.truth.BLOCK_ROWS", 256)
    catalogue = _catalogue()
    queries = np.random.default_rng(3).standard_normal((50, 16)).astype(np.float32)
    found = exact_top(catalogue.factors, catalogue.norms, queries, 30)
    products = queries @ catalogue.factors.T
    wanted = np.sort(products, axis=1)[:, ::-1][:, :30]
    assert np.allclose(np.take_along_axis(products, found, axis=1), wanted, atol=1e-6)


def test_catalogue_rows_when_made_come_by_rising_key_with_30_attributes() -> None:
    catalogue, rng = _catalogue(), np.random.default_rng(5)
    columns = attributes.generate(catalogue, rng)
    keys = (rng.permutation(ITEMS) + 1).astype(np.int32)
    rows = list(attributes.catalogue_rows(columns, keys))
    assert [row[0] for row in rows[:2]] == [attributes.item_id(1), attributes.item_id(2)]
    assert len(rows) == ITEMS
    assert rows[0][4].count(":") + rows[0][5].count(":") == len(attributes.NUMBERS) + len(attributes.TEXTS)


@pytest.mark.parametrize("name", ["lot", "appeal"])
def test_ranked_columns_when_compared_with_a_number_leave_that_share_of_the_items(name: str) -> None:
    columns = attributes.generate(_catalogue(), np.random.default_rng(5))
    ranks = columns.numbers[:, attributes.NUMBERS.index(name)]
    for share in (0.0, 0.01, 0.25, 1.0):
        assert abs(np.mean(ranks < share * attributes.RANK_END) - share) <= 1 / ITEMS


def test_appeal_when_high_names_the_items_nearest_to_the_largest_cluster() -> None:
    catalogue = _catalogue()
    columns = attributes.generate(catalogue, np.random.default_rng(5))
    best = np.argsort(-columns.numbers[:, attributes.NUMBERS.index("appeal")])[:50]
    largest = np.bincount(catalogue.clusters).argmax()
    assert np.mean(catalogue.clusters[best] == largest) > 2 * np.mean(catalogue.clusters == largest)


def test_model_when_generated_fits_together_and_has_no_forest_yet() -> None:
    rng = np.random.default_rng(5)
    catalogue = _catalogue()
    events = users.generate(catalogue, 300, rng)
    found = model.generate(catalogue, attributes.generate(catalogue, rng), events, rng)
    assert found.item_count == ITEMS
    assert not found.has_ranker
    assert set(found.item_keys.tolist()) == set(range(1, ITEMS + 1))


@pytest.mark.parametrize(
    "wrong", [{"items": 10}, {"items": 10**9}, {"factors": 2}, {"users": 1}, {"norms": "odd"}]
)
def test_options_when_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)  # type: ignore[arg-type]  # that is the point


def test_digest_when_an_option_differs_is_another(tmp_path: Path) -> None:
    assert Options().digest() == Options().digest()
    assert (
        len({Options(**change).digest() for change in ({}, {"seed": 8}, {"norms": "flat"}, {"items": 2_000})})
        == 4
    )  # type: ignore[arg-type]  # values of one kind each
    assert Options().folder(tmp_path).parent == tmp_path


def test_dataset_when_written_is_read_back_and_its_profiles_hold_the_rings(dataset_folder: Path) -> None:
    from bench.loading import profiles
    from profiles.codec import decode

    data = read(dataset_folder)
    assert data.truth.shape == (len(data.queries), 200)
    assert data.model.has_ranker
    for user, value in zip(range(20), profiles(data), strict=False):
        events = data.events.of(user)
        assert decode(value).event_count == events.stop - events.start
        assert len(value) < PROFILE_BYTES_MAX
