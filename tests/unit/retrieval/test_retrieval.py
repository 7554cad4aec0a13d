"""What is built finds what an exact scan finds, whatever the norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval import Built, Retriever, build, limits
from retrieval.layout import Layout
from retrieval.plan import EXACT, HEAD, HEAD_CELLS, Plan
from tests.oracles import retrieval_twins as twins
from tests.unit.retrieval.data import NORMS, make

RECALL_MIN = 0.97  # of the exact best 200, mean over users that the plan was not chosen by
RECALL_NARROW_MIN = 0.95  # the same where a filter hides most rows
COUNT = limits.COUNT


def opened(built: Built, factors: np.ndarray, norms: np.ndarray) -> Retriever:
    layout = Layout.from_arrays(built.arrays) if built.arrays else None
    return Retriever.of(built.plan, layout, factors, norms)


def recall(retriever: Retriever, factors: np.ndarray, queries: np.ndarray, hidden: np.ndarray) -> float:
    shares = []
    for query in queries:
        scores = np.where(hidden != 0, -np.inf, factors @ query)
        exact = np.argsort(-scores, kind="stable")[:COUNT]
        found = retriever.search(query, COUNT, hidden)
        assert len(found) == COUNT
        assert not hidden[found].any()
        assert np.all(np.diff(scores[found]) <= 1e-5 * np.abs(scores[found][1:]))
        shares.append(len(np.intersect1d(exact, found)) / COUNT)
    return float(np.mean(shares))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CELLS_ITEMS_MIN", 10_000)
    monkeypatch.setattr(limits, "HEAD_COUNTS", (0, 1_024, 4_096))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("clusters", [0, 60])
@pytest.mark.parametrize("kind", NORMS)
def test_plan_when_chosen_holds_its_recall_for_other_users_and_under_filters(
    kind: str, clusters: int
) -> None:
    factors, norms, queries = make(kind, 20_000, clusters)
    built = build(factors, norms, queries[:32])
    assert built.plan.kind == HEAD_CELLS
    assert built.plan.holds
    retriever = opened(built, factors, norms)
    assert recall(retriever, factors, queries[32:], np.zeros(len(factors), dtype=np.uint8)) >= RECALL_MIN
    random = np.random.default_rng(2)
    for share in (0.5, 0.1, 0.02):
        hidden = (random.random(len(factors)) >= share).astype(np.uint8)
        assert recall(retriever, factors, queries[32:], hidden) >= RECALL_NARROW_MIN


@pytest.mark.parametrize(("item_count", "kind"), [(1_000, EXACT), (20_000, HEAD)])
def test_plan_when_catalogue_is_small_needs_no_cells(item_count: int, kind: str) -> None:
    factors, norms, queries = make("heavy", item_count, 20)
    built = build(factors, norms, queries[:32])
    assert built.plan.kind == kind
    assert (len(built.arrays) == 0) == (kind == EXACT)
    hidden = np.zeros(item_count, dtype=np.uint8)
    assert recall(opened(built, factors, norms), factors, queries[32:], hidden) >= RECALL_MIN


@pytest.mark.usefixtures("_small")
def test_build_when_repeated_is_the_same_but_for_the_time() -> None:
    factors, norms, queries = make("flat", 12_000, 20)
    one, other = build(factors, norms, queries), build(factors, norms, queries)
    assert replace(one.plan, time_us=0) == replace(other.plan, time_us=0)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_build_when_rows_do_not_lie_by_norm_says_so() -> None:
    factors, norms, queries = make("flat", 100, 0)
    with pytest.raises(ValueError, match="falling norm"):
        build(np.ascontiguousarray(factors[::-1]), np.ascontiguousarray(norms[::-1]), queries)


def degenerate() -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    some = random.normal(size=(300, 6)).astype(np.float32)
    return {
        "zeros": np.zeros((300, 6), dtype=np.float32),
        "duplicates": np.repeat(some[:1], 300, axis=0),
        "one": some[:1],
        "few": some[:7],
        "some zeros": np.concatenate([some[:100], np.zeros((50, 6), dtype=np.float32)]),
    }


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("name", degenerate())
def test_search_when_data_is_degenerate_answers_all_that_pass(
    name: str, cells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXACT_ITEMS_MAX", 0)
    monkeypatch.setattr(limits, "CELLS_ITEMS_MIN", 0 if cells else 10_000)
    factors = degenerate()[name]
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    order = np.argsort(-norms, kind="stable")
    factors, norms = np.ascontiguousarray(factors[order]), norms[order]
    retriever = opened(build(factors, norms, factors[:8]), factors, norms)
    hidden = np.zeros(len(factors), dtype=np.uint8)
    hidden[::3] = 1
    blocked = np.array([1, -1, 1], dtype=np.int32)[: 2 if len(factors) > 1 else 0]
    for vector in (np.arange(6, dtype=np.float32), np.zeros(6, dtype=np.float32)):
        found = retriever.search(vector, COUNT, hidden, blocked)
        expected = twins.search(vector, factors, COUNT, hidden, blocked[:1])
        np.testing.assert_allclose(factors[found] @ vector, expected, rtol=1e-3, atol=1e-4)
        assert len(set(found.tolist())) == len(found)
        near = retriever.nearest(vector, COUNT, hidden, blocked)
        assert len(near) == len(twins.search(vector, factors, COUNT, hidden, blocked[:1], cosine=True))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("exact_rows_max", [0, 1_024])
def test_search_when_few_rows_are_shown_finds_the_best_of_those(
    exact_rows_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHOWN_EXACT_ROWS_MAX", exact_rows_max)
    factors, norms, queries = make("flat", 12_000, 20)
    retriever = opened(build(factors, norms, queries), factors, norms)
    rows = np.arange(5, 12_000, 97, dtype=np.int32)
    hidden = np.ones(12_000, dtype=np.uint8)
    hidden[rows] = 0
    shown = retriever.shown_of(hidden, len(rows))
    assert shown is not None
    assert (shown.layout is not None) == (exact_rows_max == 0)
    for query in queries[:8]:
        expected = rows[np.argsort(-(factors[rows] @ query), kind="stable")]
        expected = expected[expected != rows[3]]
        np.testing.assert_array_equal(retriever.search(query, COUNT, hidden, rows[3:4], shown), expected)
        np.testing.assert_array_equal(retriever.search(query, COUNT, hidden, rows[3:4]), expected)
        units = factors[expected] / norms[expected, None]
        near = expected[np.argsort(-(units @ query), kind="stable")]
        np.testing.assert_array_equal(retriever.nearest(query, COUNT, hidden, rows[3:4], shown), near)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("kind", NORMS)
def test_search_when_the_shown_are_coded_holds_its_recall_whoever_asks(kind: str) -> None:
    factors, norms, queries = make(kind, 20_000, 60)
    retriever = opened(build(factors, norms, queries[:32]), factors, norms)
    shares = []
    for query in queries[32:]:
        scores = factors @ query
        hidden = np.ones(20_000, dtype=np.uint8)
        hidden[np.argsort(scores)[4_000:6_000]] = 0  # none that the query would like to see
        shown = retriever.shown_of(hidden, 2_000)
        assert shown is not None
        assert shown.layout is not None
        found = retriever.search(query, COUNT, hidden, shown=shown)
        assert not hidden[found].any()
        exact = np.argsort(-np.where(hidden != 0, -np.inf, scores), kind="stable")[:COUNT]
        shares.append(len(np.intersect1d(exact, found)) / COUNT)
    assert np.mean(shares) >= RECALL_MIN


def test_shown_of_when_too_many_pass_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    factors, norms, queries = make("heavy", 6_000, 10)
    retriever = opened(build(factors, norms, queries), factors, norms)
    hidden = (np.arange(6_000) % 4 != 0).astype(np.uint8)
    assert retriever.shown_of(hidden, 1_500) is not None
    hidden[1] = 0
    assert retriever.shown_of(hidden, 1_501) is None
    hidden[:2] = 1
    monkeypatch.setattr(limits, "SHOWN_ROWS_MAX", 1_498)
    assert retriever.shown_of(hidden, 1_499) is None


@pytest.mark.usefixtures("_small")
def test_nearest_when_of_a_row_leaves_it_out_and_keeps_recall_by_cosine() -> None:
    factors, norms, queries = make("heavy", 20_000, 60)
    retriever = opened(build(factors, norms, queries), factors, norms)
    units = factors / norms[:, None]
    shares = []
    for row in range(0, 20_000, 1_000):
        exact = np.argsort(-(units @ units[row]), kind="stable")[1:51]
        found = retriever.nearest(row, 50)
        assert row not in found
        shares.append(len(np.intersect1d(exact, found)) / 50)
    assert np.mean(shares) >= RECALL_NARROW_MIN


def test_retriever_when_bundle_has_no_plan_scans_rows_in_any_order() -> None:
    factors, norms, queries = make("heavy", 3_000, 10)
    random = np.random.default_rng(0)
    order = random.permutation(3_000)
    mixed = np.ascontiguousarray(factors[order])
    retriever = Retriever.of(Plan(EXACT), None, mixed, norms[order])
    exact = np.argsort(-(mixed @ queries[0]), kind="stable")[:20]
    np.testing.assert_array_equal(retriever.search(queries[0], 20), exact)


def test_retriever_when_arrays_are_of_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXACT_ITEMS_MAX", 0)
    factors, norms, queries = make("heavy", 3_000, 10)
    built = build(factors, norms, queries)
    with pytest.raises(ValueError, match="not of its items"):
        opened(built, np.ascontiguousarray(factors[:100]), norms[:100])
