"""Which model is held, and how versions are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bundle.manifest import VERSION_PATTERN
from bundle.registry import ModelRow
from training.publish import judge, new_version, quality


def active(**metrics: float) -> ModelRow:
    return ModelRow("v1", "active", datetime.now(UTC), None, metrics, 1, 1, 1, True, "")


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"vectorizer_ndcg_at_10": 0.1}, 0.1),
        ({"vectorizer_ndcg_at_10": 0.1, "ranker_ndcg_at_10": 0.12}, 0.12),
        ({}, None),
    ],
)
def test_quality_is_of_what_the_model_answers_with(metrics: dict[str, float], expected: float | None) -> None:
    assert quality(metrics) == expected


@pytest.mark.parametrize(
    ("mine", "held"),
    [
        ({"vectorizer_ndcg_at_10": 0.0979}, True),
        ({"vectorizer_ndcg_at_10": 0.0981}, False),
        ({"ranker_ndcg_at_10": 0.09, "vectorizer_ndcg_at_10": 0.2}, True),
        ({}, True),
    ],
)
def test_judge_when_active_scores_a_tenth_holds_what_is_worse(mine: dict[str, float], held: bool) -> None:
    verdict = judge(mine, active(ranker_ndcg_at_10=0.1), margin=0.02)
    assert (verdict is not None) is held
    assert not held or "v1" in str(verdict)


def test_judge_when_there_is_nothing_to_compare_with_holds_nothing() -> None:
    assert judge({}, None, 0.02) is None
    assert judge({"vectorizer_ndcg_at_10": 0.0}, active(), 0.02) is None


def test_judge_when_exactly_at_the_margin_does_not_hold() -> None:
    assert judge({"ranker_ndcg_at_10": 0.25}, active(ranker_ndcg_at_10=0.5), margin=0.5) is None
    assert judge({"ranker_ndcg_at_10": 0.5}, active(ranker_ndcg_at_10=0.5), margin=0.0) is None


def test_judge_when_quality_is_not_a_number_holds() -> None:
    assert judge({"ranker_ndcg_at_10": float("nan")}, active(ranker_ndcg_at_10=0.1), 0.02) is not None


def test_new_version_sorts_by_time_and_is_a_folder_name() -> None:
    older, newer = new_version(1_800_000_000, "ffffffff"), new_version(1_800_000_001, "00000000")
    assert older == "20270115T080000-ffffff"
    assert older < newer
    assert VERSION_PATTERN.fullmatch(newer)
