"""What the order of a user's events is worth on MovieLens-100k: in retrieval, and in the end.

    PYTHONPATH=.:gen python -m bench.sequence

Each user's last event is held out, as in `reco evaluate`; the model and the ranker know nothing of it. Asked is whether it is among the
candidates, with one source's room given to the others, or with the order of the events that serving reads shuffled away.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cli.tables import read_source
from training.columns import to_dataset
from training.config import Config
from training.evaluate import figures
from training.fit import fit_base
from training.ranker import fit_ranker
from training.split import Holdout, leave_last_out
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.request import QUOTAS

Ints = NDArray[np.int64]
Order = Callable[[Ints], Ints]
LAST = np.iinfo(np.int64).max


def as_it_is(events: Ints) -> Ints:
    """Oldest first, as they are stored."""
    return events


@dataclass(frozen=True)
class Way:
    """One way to make candidates."""

    name: str
    model: ModelArrays
    quotas: NDArray[np.int32] = field(default_factory=lambda: QUOTAS)
    order: Order = as_it_is


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=7, help="of the shuffled order (default: %(default)s)")
    options = parser.parse_args()
    loaded = read_source("movielens", None, None, None)
    holdout = leave_last_out(to_dataset(loaded.events, loaded.items))
    config = Config()
    model = fit_base(holdout.train, config.base)
    model = model.with_forest(*fit_ranker(holdout.train, config.base, config.ranker))
    print(f"{len(holdout.test)} users, {model.item_count} items")
    print(f"{'candidates':<44}{'held the item':>14}{'ndcg@10':>10}{'recall@100':>12}")
    for way in _ways(model, options.seed):
        held, ranks = _asked(way, holdout)
        found = figures(ranks, 0.0)
        print(f"{way.name:<44}{held:>14.4f}{found['ndcg_at_10']:>10.4f}{found['recall_at_100']:>12.4f}")


def _ways(model: ModelArrays, seed: int) -> list[Way]:
    personal, transition, similar = QUOTAS.tolist()
    random = np.random.default_rng(seed)
    # As if all of a user's events had the same weight in his vector, whenever they were.
    timeless = replace(model, params=model.params | {"decay": 0.0})
    return [
        Way("all sources", model),
        Way("without what follows (transitions)", model, _quotas(personal + transition, 0, similar)),
        Way("without what resembles", model, _quotas(personal + similar, transition, 0)),
        Way("without either: by the vector alone", model, _quotas(sum(QUOTAS.tolist()), 0, 0)),
        Way("all, the vector's events of equal weight", timeless),
        Way("all, the events' order shuffled away", model, order=random.permutation),
    ]


def _quotas(*counts: int) -> NDArray[np.int32]:
    return np.array(counts, dtype=np.int32)


def _asked(way: Way, holdout: Holdout) -> tuple[float, Ints]:
    """The share of users whose item is a candidate, and its rank (users,) among them; LAST where it is none."""
    workspace, model, train = Workspace(way.model), way.model, holdout.train
    rows_in_model = model.rows_of(train.items.keys)
    order, offsets = train.by_user()
    ranks = np.full(len(holdout.test), LAST, dtype=np.int64)
    for at, (user, item) in enumerate(zip(holdout.test.users, holdout.test.rows, strict=True)):
        events = order[offsets[user] : offsets[user + 1]]
        seen = rows_in_model[train.rows[events]]
        ring = events[-RING_EVENT_COUNT_MAX:]
        mixed = way.order(ring)
        # The times stay in their order: they say when somebody was here, not what came first.
        rows, codes, times = rows_in_model[train.rows[mixed]], train.codes[mixed], train.times[ring]
        vector = vectorize(rows, codes, times, model, workspace)
        blocked = seen[seen >= 0]
        found = gather(
            rows, codes, times, vector, model, workspace, blocked_rows=blocked, quotas=way.quotas
        ).rows
        now = int(holdout.test.times[at])
        scores = score(found, rows, codes, times, now, vector, model, workspace)
        place = np.flatnonzero(found == rows_in_model[item])
        if len(place):
            ranks[at] = int(np.count_nonzero(scores > scores[place[0]]))
    return float(np.mean(ranks < LAST)), ranks


if __name__ == "__main__":
    main()
