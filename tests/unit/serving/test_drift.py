"""A plan whose recall has fallen is replaced by one that finds more, over the same arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval import NO_MASK, Retriever, build, limits
from retrieval.layout import Layout
from retrieval.plan import EXACT, Plan
from runtime import metrics
from serving import drift
from serving.drift import DriftWatch
from tests.unit.retrieval.data import make

FACTORS, NORMS, QUERIES = make("flat", 12_000, 30)


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch) -> Retriever:
    monkeypatch.setattr(limits, "CELLS_ITEMS_MIN", 10_000)
    monkeypatch.setattr(limits, "HEAD_COUNTS", (1_024,))
    built = build(FACTORS, NORMS, QUERIES)
    return Retriever.of(built.plan, Layout.from_arrays(built.arrays), FACTORS, NORMS)


def watch(retriever: Retriever, hidden: np.ndarray = NO_MASK) -> DriftWatch:
    found = DriftWatch(lambda: (retriever, FACTORS, NORMS, hidden), seed=1)
    for query in QUERIES:
        found.note(query, retriever)
    return found


async def test_look_when_plan_holds_keeps_it_and_tells_its_recall(retriever: Retriever) -> None:
    before = retriever.plan
    found = await watch(retriever).look()
    assert retriever.plan is before
    assert found is not None
    assert found.recall_mean >= limits.RECALL_TARGET
    assert metrics.REGISTRY.get_sample_value("reco_retrieval_recall") == found.recall_mean


async def test_look_when_recall_has_fallen_takes_a_wider_plan(retriever: Retriever) -> None:
    retriever.use(replace(retriever.plan, probe_count=1))
    hidden = np.zeros(len(FACTORS), dtype=np.uint8)
    hidden[:1_200] = 1
    found = await watch(retriever, hidden).look()
    assert found is retriever.plan
    assert retriever.plan.probe_count > 1
    assert retriever.plan.recall_mean >= limits.RECALL_TARGET
    assert metrics.REGISTRY.get_sample_value("reco_retrieval_hidden_share") == pytest.approx(0.1)


async def test_look_when_few_users_or_another_model_came_says_nothing(retriever: Retriever) -> None:
    few = DriftWatch(lambda: (retriever, FACTORS, NORMS, NO_MASK), seed=1)
    few.note(QUERIES[0], retriever)
    assert await few.look() is None
    other = Retriever.of(Plan(EXACT), None, FACTORS, NORMS)
    moved = watch(retriever)
    moved.note(QUERIES[0], other)
    assert await moved.look() is None
    assert await DriftWatch(lambda: None, seed=1).look() is None


def test_note_when_many_users_come_keeps_a_bounded_sample(retriever: Retriever) -> None:
    found = watch(retriever)
    for _ in range(10):
        for query in QUERIES:
            found.note(query, retriever)
    assert len(found._vectors) == drift.QUERY_COUNT_MAX
