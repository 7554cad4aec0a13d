"""Scores by the libraries' own predict: CatBoost with the very trees that the engine scores, or LightGBM fitted to them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from catboost import CatBoost
from numpy.typing import NDArray

from vectorizer.features import FEATURES
from vectorizer.model import ModelArrays

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]
LIGHTGBM_TREES, LIGHTGBM_LEAVES = 200, 31  # as many trees; its usual size of one


def catboost_predict(model: ModelArrays) -> Predict:
    """(k, 36) float32 -> (k,) scores, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        path.write_text(json.dumps(_described(model)))
        trees = CatBoost()
        trees.load_model(str(path), format="json")
    return lambda matrix: np.asarray(trees.predict(matrix, thread_count=1))


def lightgbm_predict(matrix: NDArray[np.float32], scores: NDArray[np.float64]) -> Predict:
    """LightGBM fitted to the rows and the scores of CatBoost: the other library, with nearly the same order of items."""
    import lightgbm

    params = {
        "objective": "regression",
        "num_leaves": LIGHTGBM_LEAVES,
        "num_threads": 1,
        "verbose": -1,
        "seed": 7,
    }
    trees = lightgbm.train(params, lightgbm.Dataset(matrix, scores), num_boost_round=LIGHTGBM_TREES)
    return lambda rows: np.asarray(trees.predict(rows, num_threads=1))


def _described(model: ModelArrays) -> dict[str, Any]:
    """The forest as CatBoost's JSON has it. Levels that never turn true were padding: they are left out again."""
    pairs = sorted({
        (int(f), float(b)) for f, b in zip(model.forest_features.ravel(), model.forest_borders.ravel(), strict=True)
        if np.isfinite(b)
    })  # fmt: skip
    places = {pair: place for place, pair in enumerate(pairs)}
    floats = [
        {"borders": [b for f, b in pairs if f == feature], "feature_index": feature, "flat_feature_index": feature,
         "feature_id": name, "has_nans": False, "nan_value_treatment": "AsIs"}
        for feature, name in enumerate(FEATURES)
    ]  # fmt: skip
    trees = zip(
        model.forest_features.tolist(),
        model.forest_borders.astype(np.float64).tolist(),
        model.forest_leaves,
        strict=True,
    )
    return {
        "model_info": {},
        "features_info": {"float_features": floats, "categorical_features": []},
        "oblivious_trees": [_tree(*tree, places) for tree in trees],
        "scale_and_bias": [1, [float(model.params["forest_bias"])]],
    }


def _tree(
    tested: list[int], borders: list[float], leaves: NDArray[np.float32], places: dict[tuple[int, float], int]
) -> dict[str, Any]:
    splits = [
        {
            "float_feature_index": feature,
            "border": border,
            "split_index": places[feature, border],
            "split_type": "FloatFeature",
        }
        for feature, border in zip(tested, borders, strict=True)
        if np.isfinite(border)
    ]
    count = 2 ** len(splits)
    return {"splits": splits, "leaf_values": leaves[:count].tolist(), "leaf_weights": [1.0] * count}
