"""The whole data set, its parts in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.dataset import Dataset
from bench.generate import attributes, factors, forest, model, users
from bench.generate.truth import exact_top
from bench.generate.users import Events
from bench.options import Options
from vectorizer import ModelArrays, Workspace, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX

QUERIES = 1_000
TRUTH_COUNT = 200
Say = Callable[[str], None]


def generate(options: Options, say: Say = lambda _: None) -> Dataset:
    """The data set of `options`; `say` hears what comes next."""
    rng = np.random.default_rng(options.seed)
    say("factors")
    catalogue = factors.generate(options.items, options.factors, options.norms, rng)
    say("users")
    events = users.generate(catalogue, options.users, rng)
    say("attributes")
    columns = attributes.generate(catalogue, rng)
    say("lists and statistics")
    arrays = model.generate(catalogue, columns, events, rng)
    say("forest")
    arrays = forest.fit(arrays, events, options.seed)
    say("exact answers")
    queries, query_users = vectors(arrays, events, QUERIES)
    truth = exact_top(arrays.factors, arrays.factor_norms, queries, TRUTH_COUNT)
    return Dataset(arrays, events, columns, queries, query_users, truth)


def vectors(
    arrays: ModelArrays, events: Events, count: int, first: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The fold-in vectors of `count` users, from user `first` on, who have one (k, d), and who they are (k,)."""
    workspace = Workspace(arrays)
    found, whose = [], []
    for user in range(first, len(events.offsets) - 1):
        where = events.of(user)
        ring = slice(max(where.start, where.stop - RING_EVENT_COUNT_MAX), where.stop)
        vector = vectorize(events.rows[ring], events.codes[ring], events.times[ring], arrays, workspace)
        if vector.any():
            found.append(vector)
            whose.append(user)
        if len(found) == count:
            break
    return np.stack(found), np.array(whose, dtype=np.int32)
