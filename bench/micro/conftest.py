"""The data set, and one request's state after each stage, so that every stage can be timed alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

import bench.data
from bench.dataset import Dataset
from bench.generate.attributes import catalogue_rows
from bench.loading import profiles
from bench.options import CACHE, Options
from profiles.codec import decode
from retrieval import Retriever, build
from serving.candidates import Candidates
from serving.catalogue import Catalogue, ItemRow
from vectorizer import Workspace, gather, score, vectorize

ITEMS = int(os.environ.get("BENCH_ITEMS", "50000"))
USERS = int(os.environ.get("BENCH_USERS", "2000"))
RING_FULL = 64
CANDIDATES = 200


@dataclass
class State:
    """One request over the data set. Rings and vectors are a user's with a full ring."""

    data: Dataset
    profile: bytes
    ring: tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint32]]  # rows, codes, times
    workspace: Workspace
    vector: NDArray[np.float32]
    retriever: Retriever
    near: NDArray[np.int32]  # rows that the retriever found
    found: NDArray[np.int32]  # rows that were gathered
    scores: NDArray[np.float32]
    candidates: Candidates
    now_s: int


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The data set, made in BENCH_CACHE."""
    return bench.data.load(Options(ITEMS, users=USERS), Path(os.environ.get("BENCH_CACHE", str(CACHE))))


@pytest.fixture(scope="session")
def state(data: Dataset) -> State:
    """A request, all its stages run once."""
    model, events = data.model, data.events
    user = int(np.argmax(np.diff(events.offsets)))
    where = slice(events.of(user).stop - RING_FULL, events.of(user).stop)
    ring = (np.ascontiguousarray(events.rows[where]), events.codes[where], events.times[where])
    workspace = Workspace(model)
    vector = vectorize(*ring, model, workspace)
    built = build(model.factors, model.factor_norms, data.queries[::2])
    retriever = Retriever(built.arrays, built.params, model)
    near = retriever.search(vector, CANDIDATES)
    found = gather(*ring, vector, model, workspace, personal_rows=near)
    now_s = int(events.times[where.stop - 1]) + 60
    scores = score(found.rows, *ring, now_s, vector, model, workspace)
    keys = np.asarray(model.item_keys)[found.rows]
    candidates = Candidates(keys, found.rows, np.ones(len(keys), dtype=np.uint8))
    profile = next(value for at, value in enumerate(profiles(data)) if at == user)
    assert len(decode(profile).keys) == RING_FULL
    return State(
        data, profile, ring, workspace, vector, retriever, near, found.rows, scores, candidates, now_s
    )


@pytest.fixture(scope="session")
def catalogue(data: Dataset) -> Catalogue:
    """The catalogue as serving holds it."""
    filled = Catalogue()
    keys = sorted(np.asarray(data.model.item_keys).tolist())
    rows = zip(keys, catalogue_rows(data.attributes, data.model.item_keys), strict=True)
    filled.apply((_item(key, row) for key, row in rows), 0.0)
    return filled


def _item(key: int, row: Any) -> ItemRow:
    item_id, title, categories, tags, numbers, texts, created_s = row
    values = orjson.loads(numbers), orjson.loads(texts)
    return ItemRow(key, item_id, title, categories, tags, *values, float(created_s), None, True, False)
