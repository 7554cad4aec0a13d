"""The published figures hold: MovieLens-100k, leave-last-one-out by time, full ranking over unseen items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.columns import MOVIELENS_EVENTS, MOVIELENS_ITEMS, read_events, read_items, to_dataset
from training.config import Config
from training.evaluate import evaluate

pytestmark = pytest.mark.quality

VECTORIZER_NDCG_MIN, VECTORIZER_RECALL_MIN = 0.115, 0.62
RANKER_NDCG_MIN = 0.125


@pytest.fixture(scope="module")
def result(movielens_dir: Path) -> dict[str, Any]:
    """One whole evaluation, with the settings that everyone gets."""
    events, bad_events = read_events(movielens_dir / "ml-100k.inter", MOVIELENS_EVENTS)
    items, bad_items = read_items(movielens_dir / "ml-100k.item", MOVIELENS_ITEMS)
    assert bad_events.count == bad_items.count == 0
    return evaluate(to_dataset(events, items), Config())


def test_evaluate_when_data_is_movielens_sees_all_of_it(result):
    assert result["data"] == {
        "events": 100_000,
        "users": 943,
        "items": 1_682,
        "protocol": "leave-last-one-out",
        "users_evaluated": 943,
    }


def test_vectorizer_when_data_is_movielens_reaches_its_figures(result):
    vectorizer = result["models"]["vectorizer"]
    assert vectorizer["ndcg_at_10"] >= VECTORIZER_NDCG_MIN
    assert vectorizer["recall_at_100"] >= VECTORIZER_RECALL_MIN


def test_ranker_when_data_is_movielens_reaches_its_figure(result):
    assert result["models"]["ranker"]["ndcg_at_10"] >= RANKER_NDCG_MIN


def test_baselines_when_data_is_movielens_stay_below_the_vectorizer(result):
    models = result["models"]
    below = [models[name]["ndcg_at_10"] for name in ("popularity", "item_knn", "ease", "ials")]
    assert max(below) < models["vectorizer"]["ndcg_at_10"]
