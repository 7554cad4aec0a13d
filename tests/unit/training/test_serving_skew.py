"""What the ranker was trained on is what serving computes: the same user, the same time, the same bits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiles.codec import decode, merge, pack_event
from tests.unit.training.synthetic import BASE, RANKER
from training.dataset import Dataset
from training.fit import fit_base
from training.lake import read_lake
from training.rows import TrainingRows, rows_of_windows
from vectorizer import ModelArrays, Workspace, gather, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.request import features

USER_COUNT, EVENT_COUNT, ITEM_COUNT = 12, 1_500, 300
START_S = 1_700_000_000
EVERY_CANDIDATE = replace(RANKER, negative_count=1_000, ring_event_count_min=1)


@pytest.fixture(scope="module")
def events() -> list[tuple[int, int, int, int]]:
    """(user, second, signal, item key): many in one second, some twice, some users with far more than a ring holds."""
    rng = np.random.default_rng(3)
    users = rng.choice(USER_COUNT, EVENT_COUNT, p=np.arange(1, USER_COUNT + 1) / sum(range(USER_COUNT + 1)))
    seconds = START_S + np.sort(rng.integers(0, EVENT_COUNT // 2, EVENT_COUNT)) * 60
    signals, keys = rng.integers(1, 11, EVENT_COUNT), rng.integers(1, ITEM_COUNT, EVENT_COUNT) * 7
    plain = list(zip(users.tolist(), seconds.tolist(), signals.tolist(), keys.tolist(), strict=True))
    return plain + plain[::9]


@pytest.fixture(scope="module")
def dataset(events, tmp_path_factory) -> Dataset:
    """As training reads them: in any order, each under an id of its own."""
    users, seconds, signals, keys = zip(*np.random.default_rng(1).permutation(events).tolist(), strict=True)
    path = tmp_path_factory.mktemp("lake") / "a.parquet"
    columns = {
        "subject": [f"u:{user:02}" for user in users],
        "item_key": pa.array(keys, pa.int32()),
        "signal": pa.array(signals, pa.int8()),
        "event_time": [datetime.fromtimestamp(second, UTC) for second in seconds],
    }
    pq.write_table(pa.table(columns), path)
    return read_lake([str(path)])


def _served(user: int, before_s: int, events, model: ModelArrays) -> tuple[np.ndarray, np.ndarray]:
    """(k,) item keys and (k, F): what serving finds at `before_s`, by a profile merged in two parts and out of order."""
    packed = [pack_event(s, signal, key) for who, s, signal, key in events if who == user and s < before_s]
    random = np.random.default_rng(user).permutation(np.array(packed, dtype=np.uint64))
    value = None
    for part in np.array_split(random, 2):
        value = merge(value, part, 1) if len(part) else value
    profile = decode(value)
    rows = model.rows_of(profile.keys)
    seen = model.rows_of(profile.seen_keys)
    workspace = Workspace(model)
    vector = vectorize(rows, profile.codes, profile.times, model, workspace)
    found = gather(
        rows, profile.codes, profile.times, vector, model, workspace, blocked_rows=seen[seen >= 0]
    ).rows
    ring = (rows, profile.codes, profile.times)
    return model.item_keys[found], features(found, *ring, before_s, vector, model, workspace).T.copy()


def _groups(rows: TrainingRows) -> list[np.ndarray]:
    return np.split(rows.features, np.flatnonzero(np.diff(rows.groups)) + 1)


def test_training_rows_when_compared_with_a_stored_profile_are_bit_identical(dataset, events):
    begin = len(dataset) // 2
    edges = np.array([begin, len(dataset)])
    rows = rows_of_windows(dataset, edges, 1.0, BASE, EVERY_CANDIDATE)
    model = fit_base(dataset.take(slice(0, begin)), BASE)
    served = []
    times = rows.times[np.searchsorted(rows.groups, np.unique(rows.groups))]
    trained = {(int(time), group.tobytes()) for time, group in zip(times, _groups(rows), strict=True)}
    full = 0
    # The first event of a user in a second: before it, both sides know the same seconds.
    for at in range(begin, len(dataset)):
        user, now = int(dataset.users[at]), int(dataset.times[at])
        own = dataset.times[dataset.users == user]
        if np.count_nonzero(own == now) > 1:
            continue
        keys, matrix = _served(user, now, events, model)
        positive = np.flatnonzero(keys == dataset.items.keys[dataset.rows[at]])
        if len(positive):
            order = np.concatenate([positive, np.delete(np.arange(len(matrix)), positive)])
            served.append((now, matrix[order].tobytes()))
            full += np.count_nonzero(own < now) > RING_EVENT_COUNT_MAX
    assert full > 50
    assert len(served) > 100
    assert [each for each in served if each not in trained] == []
