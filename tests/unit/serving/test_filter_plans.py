"""How a filter's rows are searched: compiled in a thread, searched safely at first, then as measured on users' vectors."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from reco.ranking.v1.ranking_service_pb2 import FilterMode

from retrieval import build, limits
from runtime.errors import CallerError
from serving.catalogue import Catalogue
from serving.eligibility import EligibilityCache
from serving.model import LoadedModel, of_arrays
from tests.integration.serving.models import make_model
from tests.unit.retrieval.data import make
from tests.unit.retrieval.test_retrieval import opened
from tests.unit.serving.items import NOW_S, catalogue_of, item

ITEMS = 4_000
RECALL_MIN = 0.97


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CELLS_ITEMS_MIN", 1_000)
    monkeypatch.setattr(limits, "CELL_ROW_COUNT", 64)
    monkeypatch.setattr(limits, "HEAD_COUNTS", (0, 256, 512, 1_024))
    monkeypatch.setattr(limits, "SHOWN_ROWS_MAX", 1_500)
    monkeypatch.setattr(limits, "SHOWN_EXACT_ROWS_MAX", 100)
    monkeypatch.setattr(limits, "SHOWN_HEAD_ROWS", 1_200)


def world(norms: str) -> tuple[Catalogue, LoadedModel, np.ndarray]:
    """A catalogue whose number `rank` rises with the first user's liking, a model of all of it, and users' vectors."""
    factors, lengths, queries = make(norms, ITEMS, 20)
    retriever = opened(build(factors, lengths, queries[:32]), factors, lengths)
    arrays = replace(
        make_model(np.arange(1, ITEMS + 1, dtype=np.int32)), factors=factors, factor_norms=lengths
    )
    ranks = np.argsort(np.argsort(factors @ queries[-1]))
    rows = [
        item(row + 1, numbers={"rank": int(ranks[row]), "lot": row * 7_919 % ITEMS}) for row in range(ITEMS)
    ]
    return catalogue_of(*rows), of_arrays("m", arrays, retriever), queries


def cache_of(catalogue: Catalogue, queries: np.ndarray) -> EligibilityCache:
    return EligibilityCache(catalogue, lambda model: queries[:32])


def recall(cache: EligibilityCache, model: LoadedModel, text: str, queries: np.ndarray) -> float:
    """Of the exact best 100 for users that nothing was measured on."""
    found, shares = cache.of(model, text), []
    for query in queries[32:]:
        best = model.retriever.exact(query, limits.FILTER_RECALL_COUNT, found.hidden)
        rows = model.retriever.search(query, limits.COUNT, found.hidden, shown=found.shown)
        assert not len(found.hidden) or not found.hidden[rows].any()
        shares.append(len(np.intersect1d(best, rows)) / max(1, len(best)))
    return float(np.mean(shares))


@pytest.mark.parametrize("norms", ["heavy", "flat", "equal"])
@pytest.mark.parametrize("column", ["lot", "rank"])
async def test_search_when_any_share_passes_finds_the_best_before_and_after_it_is_measured(
    norms: str, column: str
) -> None:
    catalogue, model, queries = world(norms)
    cache = cache_of(catalogue, queries)
    modes = set()
    for count in (3, 90, 400, 1_500, 2_400, 3_900):
        for text in (f"{column}<{count}", f"{column}>={ITEMS - count}"):
            assert cache.of(model, text).report[1] == count
            assert recall(cache, model, text, queries) >= RECALL_MIN
            while await cache.look():
                pass
            mode, _, estimated = cache.of(model, text).report
            modes.add(mode)
            assert estimated is not None
            assert estimated >= RECALL_MIN
            assert recall(cache, model, text, queries) >= RECALL_MIN
    assert modes >= {FilterMode.FILTER_MODE_EXACT, FilterMode.FILTER_MODE_SCAN}


async def test_report_when_nothing_is_filtered_says_so_and_counts_what_is_left() -> None:
    catalogue = catalogue_of(item(1), item(2, available=False))
    assert EligibilityCache(catalogue).of(None, " ").report == (FilterMode.FILTER_MODE_NONE, 1, None)


async def test_report_when_many_more_pass_than_when_it_was_measured_forgets_the_recall() -> None:
    catalogue, model, queries = world("heavy")
    cache = cache_of(catalogue, queries)
    cache.of(model, "lot<2000")
    while await cache.look():
        pass
    measured = cache.of(model, "lot<2000").report
    catalogue.apply([item(key, numbers={"lot": 1}) for key in range(1, 2_001)], NOW_S)
    after = cache.of(model, "lot<2000").report
    assert measured[2] is not None
    assert after[1] > 1.2 * measured[1]
    assert after[2] is None
    while await cache.look():
        pass
    assert cache.of(model, "lot<2000").report[2] is not None


async def test_prepare_when_a_filter_is_new_derives_it_once_for_all_who_ask() -> None:
    cache = EligibilityCache(catalogue_of(*(item(key, tags=["a"]) for key in range(1, 40))))
    await asyncio.gather(*(cache.prepare(["tags:a"], 10.0) for _ in range(5)))
    first = cache.of(None, "tags:a")
    await cache.prepare(["tags:a", " tags:a "], 0.0)
    assert cache.of(None, "tags:a") is first
    assert first.count == 39


async def test_prepare_when_time_is_up_returns_and_the_answer_is_right_all_the_same() -> None:
    cache = EligibilityCache(catalogue_of(item(1, tags=["a"]), item(2)))
    await cache.prepare(["tags:a"], 0.0)
    assert cache.of(None, "tags:a").count == 1


async def test_prepare_when_a_filter_cannot_be_read_names_the_position() -> None:
    with pytest.raises(CallerError, match="position 4"):
        await EligibilityCache(catalogue_of(item(1))).prepare(["", "year"], 1.0)


async def test_prepare_for_when_a_model_comes_next_has_what_is_kept_for_the_present_one() -> None:
    catalogue, model, _ = world("heavy")
    following, cache = replace(model, version="next"), EligibilityCache(catalogue)
    texts = ["", "lot<50", "lot<2000"]
    for text in texts:
        cache.of(model, text)
    await cache.prepare_for(following)
    prepared = [cache.of(following, text) for text in texts]
    cache.forget("m")
    assert [each.count for each in prepared] == [ITEMS, 50, 2_000]
    assert {name[0] for name in cache._kept} == {"next"}
    assert cache.size_bytes == sum(kept.size_bytes for kept in cache._kept.values())
