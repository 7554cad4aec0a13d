"""Fits the ranker and turns CatBoost's oblivious trees into the flat arrays that `vectorizer.forest` scores."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoostRanker, Pool

from training.config import BaseConfig, Progress, RankerConfig, no_progress
from training.dataset import Dataset
from training.rows import TrainingRows, training_rows
from vectorizer.features import FEATURES
from vectorizer.model import empty_forest

GROUP_COUNT_MIN = 20  # fewer say nothing: the vectorizer's own order is better


def fit_ranker(
    dataset: Dataset, base: BaseConfig, ranker: RankerConfig, progress: Progress = no_progress
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The forest's arrays and params for `ModelArrays.with_forest`; an empty forest where the data is too small."""
    rows = training_rows(dataset, base, ranker, progress)
    if int(rows.labels.sum()) < GROUP_COUNT_MIN:
        return empty_forest(), {"forest_bias": 0.0}
    return forest_arrays(fit_trees(rows, ranker, progress))


class _Watch:
    """CatBoost's callback: hands each finished tree to the progress callback."""

    def __init__(self, progress: Progress, tree_count: int) -> None:
        self._progress, self._tree_count = progress, tree_count

    def after_iteration(self, info: Any) -> bool:
        self._progress("ranker", int(info.iteration), self._tree_count)
        return True  # go on


def fit_trees(rows: TrainingRows, config: RankerConfig, progress: Progress = no_progress) -> CatBoostRanker:
    """CatBoost over the rows, seeded."""
    pool = Pool(rows.features, label=rows.labels, group_id=rows.groups, feature_names=list(FEATURES))
    model = CatBoostRanker(
        loss_function=config.loss,
        iterations=config.tree_count,
        depth=config.depth,
        learning_rate=config.learning_rate,
        l2_leaf_reg=config.l2,
        random_seed=config.seed,
        thread_count=config.thread_count,
        border_count=64,
        allow_writing_files=False,
        logging_level="Silent",
    )
    model.fit(pool, callbacks=[_Watch(progress, config.tree_count)])
    return model


def forest_arrays(model: CatBoostRanker) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The trees as arrays: tested (t, p) int32, borders (t, p) and leaves (t, 2**p) float32, and the bias.

    Shallower trees are padded with levels that never turn true, so that all have the same depth.
    """
    trees, bias, scale = _described(model)
    if not trees:
        return empty_forest(), {"forest_bias": bias}
    depth = max(1, *(len(tree["splits"] or []) for tree in trees))
    tested = np.zeros((len(trees), depth), dtype=np.int32)
    borders = np.full((len(trees), depth), np.inf, dtype=np.float32)
    leaves = np.zeros((len(trees), 2**depth), dtype=np.float32)
    for t, tree in enumerate(trees):
        for level, split in enumerate(tree["splits"] or []):
            tested[t, level], borders[t, level] = split["float_feature_index"], split["border"]
        values = np.array(tree["leaf_values"]) * scale
        leaves[t, : len(values)] = values
    forest = {"forest_features": tested, "forest_borders": borders, "forest_leaves": leaves}
    return forest, {"forest_bias": bias}


def _described(model: CatBoostRanker) -> tuple[list[dict[str, Any]], float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        described = json.loads(path.read_text())
    scale, (bias,) = described["scale_and_bias"]
    return described["oblivious_trees"], float(bias), float(scale)
