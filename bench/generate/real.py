"""Real factors: MovieLens-100k through training's own functions, ranker and all. Small, but nobody has made its norms up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.dataset import Dataset as BenchDataset
from bench.generate import attributes
from bench.generate.factors import Catalogue
from bench.generate.truth import exact_top
from bench.generate.users import Events
from bench.generate.whole import QUERIES, TRUTH_COUNT, vectors
from bench.options import Options
from cli.tables import read_source
from training.columns import to_dataset
from training.config import QUICK_RANKER, BaseConfig
from training.dataset import Dataset
from training.fit import fit_base
from training.ranker import fit_ranker
from vectorizer import ModelArrays


def generate(options: Options, say: Callable[[str], None]) -> BenchDataset:
    """The data set of MovieLens-100k. DatasetError when it can't be fetched."""
    say("MovieLens-100k")
    loaded = read_source("movielens", None, None, None)
    dataset = to_dataset(loaded.events, loaded.items)
    config = BaseConfig(seed=options.seed, factor_count=options.factors)
    say("factors")
    base = fit_base(dataset, config)
    say("forest")
    model = base.with_forest(*fit_ranker(dataset, config, QUICK_RANKER)).by_norm().trimmed()
    events = _events(dataset, model)
    rng = np.random.default_rng(options.seed)
    columns = attributes.generate(_catalogue(model), rng)
    queries, query_users = vectors(model, events, QUERIES)
    truth = exact_top(model.factors, model.factor_norms, queries, TRUTH_COUNT)
    return BenchDataset(_keyed(model, rng), events, columns, queries, query_users, truth)


def _events(dataset: Dataset, model: ModelArrays) -> Events:
    order, offsets = dataset.by_user()
    rows = model.rows_of(dataset.items.keys)[dataset.rows[order]]
    assert np.all(rows >= 0), "a base model has all items that have events"
    return Events(offsets.astype(np.int64), rows.astype(np.int32), dataset.codes[order], dataset.times[order])


def _catalogue(model: ModelArrays) -> Catalogue:
    clusters: NDArray[np.int32] = np.zeros(
        model.item_count, dtype=np.int32
    )  # films have categories of their own
    return Catalogue(model.factors, model.factor_norms, clusters, model.popularity)


def _keyed(model: ModelArrays, rng: np.random.Generator) -> ModelArrays:
    """Keys from 1 to n, as an empty table numbers its rows: a film without events is in no model and would leave a gap."""
    arrays = model.to_arrays() | {"item_keys": (rng.permutation(model.item_count) + 1).astype(np.int32)}
    return ModelArrays.from_arrays(arrays, model.params)
