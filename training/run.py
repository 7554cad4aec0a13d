"""The whole training job, its stages in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import Config, Progress
from training.content import fit_content
from training.dataset import Dataset
from training.evaluate import figures, model_ranks
from training.fit import fit_base
from training.queries import user_vectors
from training.ranker import fit_ranker
from training.split import Holdout, leave_last_out
from vectorizer.content import ContentModel
from vectorizer.model import ModelArrays


@dataclass(frozen=True)
class Candidate:
    """A model that is ready to be published."""

    model: ModelArrays
    metrics: Mapping[str, float]  # such as "vectorizer_ndcg_at_10", from the held-out events
    event_count: int
    note: str
    queries: NDArray[np.float32]  # (m, d) float32, vectors of users
    content: ContentModel


Publish = Callable[[Candidate], None]


def train(dataset: Dataset, config: Config, first: bool, publish: Publish, progress: Progress) -> None:
    """Fits, evaluates and publishes a model of all of `dataset`.

    When it is the `first` model, it is published before it has a ranker, so that answers are personal while the ranker
    is fitted. What is evaluated is fitted without each user's last event; what is published, on all events. The ranker
    is the evaluated one: it has seen none of the events that it is judged by.
    """
    holdout = leave_last_out(dataset)
    evaluated = fit_base(holdout.train, config.base, progress)
    metrics = _metrics("vectorizer", holdout, evaluated)
    base = fit_base(dataset, config.base, progress)
    queries = user_vectors(dataset, base)
    content = fit_content(dataset, base, queries, config.base.regularization)
    if first:
        note = "without a ranker, which is being fitted"
        publish(Candidate(base, metrics, len(dataset), note, queries, content))
    forest, params = fit_ranker(holdout.train, config.base, config.ranker, progress)
    metrics = metrics | _metrics("ranker", holdout, evaluated.with_forest(forest, params))
    publish(Candidate(base.with_forest(forest, params), metrics, len(dataset), "", queries, content))


def _metrics(name: str, holdout: Holdout, model: ModelArrays) -> dict[str, float]:
    found: dict[str, Any] = figures(model_ranks(holdout, model), 0.0)
    del found["fit_s"]
    return {f"{name}_{metric}": float(np.round(value, 6)) for metric, value in found.items()}
