"""Users: what each did, in the order of time, drawn from a few clusters by popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.generate.factors import Catalogue
from profiles.signals import Signal

EVENTS_MAX = 100  # of a user, log-uniform from 1
TASTES_MAX = 4  # clusters that a user looks into
STRAY_SHARE = 0.15  # of the events go anywhere
UNTIL_S = 1_790_000_000  # the time of the newest event: fixed, so that the same seed gives the same bytes
SPAN_S = 90 * 86_400
SIGNALS = {Signal.VIEW: 0.7, Signal.CLICK: 0.12, Signal.ADD_TO_CART: 0.07, Signal.PURCHASE: 0.05, Signal.LIKE: 0.04,
           Signal.DISLIKE: 0.02}  # fmt: skip


@dataclass(frozen=True)
class Events:
    """The events of u users, each user's together and in the order of time."""

    offsets: NDArray[np.int64]  # (u + 1,) where each user's begin
    rows: NDArray[np.int32]  # (N,)
    codes: NDArray[np.uint8]  # (N,) profiles.signals.Signal
    times: NDArray[np.uint32]  # (N,) unix seconds

    def of(self, user: int) -> slice:
        """Where the events of `user` are."""
        return slice(int(self.offsets[user]), int(self.offsets[user + 1]))


def generate(catalogue: Catalogue, users: int, rng: np.random.Generator) -> Events:
    """The events of `users` users."""
    counts = np.floor(np.exp(rng.random(users) * np.log(EVENTS_MAX + 1))).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    owners = np.repeat(np.arange(users), counts)
    rows = _rows(catalogue, owners, users, rng)
    codes = rng.choice([int(s) for s in SIGNALS], len(owners), p=list(SIGNALS.values())).astype(np.uint8)
    return Events(offsets, rows, codes, _times(owners, users, rng))


def _rows(
    catalogue: Catalogue, owners: NDArray[np.int64], users: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    order = np.argsort(
        catalogue.clusters, kind="stable"
    )  # cluster by cluster: each is a stretch of the sums below
    sums = np.concatenate([[0.0], np.cumsum(catalogue.popularity[order], dtype=np.float64)])
    edges = np.searchsorted(catalogue.clusters[order], np.arange(catalogue.clusters.max() + 2))
    shares = np.diff(sums[edges])
    tastes = rng.choice(len(shares), (users, TASTES_MAX), p=shares / shares.sum())
    depth = rng.integers(1, TASTES_MAX + 1, users)
    cluster = tastes[owners, (rng.random(len(owners)) * depth[owners]).astype(np.int64)]
    stray = rng.random(len(owners)) < STRAY_SHARE
    begin = np.where(stray, 0.0, sums[edges[cluster]])
    end = np.where(stray, sums[-1], sums[edges[cluster + 1]])
    places = np.searchsorted(sums, begin + rng.random(len(owners)) * (end - begin), side="right") - 1
    return np.asarray(order[np.clip(places, 0, len(order) - 1)], dtype=np.int32)


def _times(owners: NDArray[np.int64], users: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Visits in the last weeks, ascending for each user; no two events of a user in one second."""
    last = UNTIL_S - rng.integers(0, SPAN_S // 3, users)
    gaps = np.where(rng.random(len(owners)) < 0.8, rng.integers(5, 300, len(owners)), 0)
    gaps += np.where(gaps == 0, rng.integers(3_600, 3 * 86_400, len(owners)), 0)
    # From each user's last event backwards: what lies between an event and the end of its user's stretch.
    sums = np.cumsum(gaps)
    ends = np.concatenate([np.flatnonzero(np.diff(owners)), [len(owners) - 1]])
    return np.asarray(last[owners] - (sums[ends][owners] - sums), dtype=np.uint32)
