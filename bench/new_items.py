"""What a new item's vector is worth on MovieLens-100k: expected from its words, and learnt from its first events.

    PYTHONPATH=.:gen python -m bench.new_items

A fifth of the films with at least 20 events is taken out of the training events altogether. Each is then given a vector, and ranked
among all films for users who went on to touch it, by their vectors before that (held-out films left out of them). The first events
of a film teach; users whose events taught are not asked.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from cli.tables import read_source
from training.columns import to_dataset
from training.config import BaseConfig
from training.content import fit_content
from training.dataset import Dataset
from training.fit import fit_base
from training.queries import user_vectors
from vectorizer import Workspace, vectorize
from vectorizer.content import EVENT_CONFIDENCE, ContentModel, learnt_vector
from vectorizer.limits import RING_EVENT_COUNT_MAX
from vectorizer.model import ModelArrays

HELD_OUT_SHARE, EVENTS_MIN = 0.2, 20
LESSONS = (0, 1, 3, 10)  # events that a new film has learnt from
CUT = 100
USERS_MAX = 40  # asked of each film
NAMES = [f"{prior}, {count} events" for prior in ("the mean", "words", "zero") for count in LESSONS]
OF_ANYONE = " of anyone"

Float32 = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--confidence", type=float, default=EVENT_CONFIDENCE, help="of an event (default: %(default)s)"
    )
    options = parser.parse_args()
    loaded = read_source("movielens", None, None, None)
    dataset = to_dataset(loaded.events, loaded.items)
    held_out = _held_out(dataset, options.seed)
    train = dataset.take(~np.isin(dataset.rows, held_out))
    config = BaseConfig()
    model = fit_base(train, config)
    content = fit_content(train, model, user_vectors(train, model), config.regularization)
    print(f"{len(held_out)} films held out, {model.item_count} known, {len(content.words)} words")
    anyone = user_vectors(dataset, model)
    found = _places(dataset, held_out, model, content, anyone, options.confidence)
    print(f"{'vector':<28}{'recall@100':>12}{'mean place':>12}{'of anyone':>12}{'mean place':>12}")
    for name in NAMES:
        shown = [found[name], found[name + OF_ANYONE]]
        texts = [f"{np.mean(places < CUT):>12.3f}{np.mean(places):>12.0f}" for places in shown]
        print(f"{name:<28}{texts[0]}{texts[1]}")


def _held_out(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    known = np.flatnonzero(np.bincount(dataset.rows, minlength=len(dataset.items.keys)) >= EVENTS_MIN)
    random = np.random.default_rng(seed)
    return np.sort(random.choice(known, round(HELD_OUT_SHARE * len(known)), replace=False))


def _places(
    dataset: Dataset,
    held_out: NDArray[np.int64],
    model: ModelArrays,
    content: ContentModel,
    anyone: Float32,
    confidence: float,
) -> dict[str, NDArray[np.int64]]:
    """By kind of vector: the places (m,) of the new films, each for each user asked, and for some of all users."""
    found: dict[str, list[int]] = {name + who: [] for name in NAMES for who in ("", OF_ANYONE)}
    workspace, words = Workspace(model), dataset.items.words
    hidden = set(held_out.tolist())
    for item in held_out.tolist():
        at = np.flatnonzero(dataset.rows == item)
        vectors = [_vector_before(dataset, int(event), hidden, model, workspace) for event in at]
        known = [vector for vector in vectors if vector.any()]
        teachers, asked = np.array(known[: max(LESSONS)]), known[max(LESSONS) :][:USERS_MAX]
        expected = content.vector_of(words.hashes[words.starts[item] : words.starts[item + 1]].tolist())
        priors = (content.bias, expected, np.zeros_like(expected))
        ways = [(prior, count) for prior in priors for count in LESSONS]
        for name, (prior, count) in zip(NAMES, ways, strict=True):
            sure = np.full(len(teachers[:count]), confidence, dtype=np.float32)
            learnt = learnt_vector(prior, content.user_gram, teachers[:count], sure)
            found[name] += [_place(user, learnt, model) for user in asked]
            found[name + OF_ANYONE] += [_place(user, learnt, model) for user in anyone[:USERS_MAX]]
    return {name: np.array(places) for name, places in found.items()}


def _vector_before(
    dataset: Dataset, event: int, hidden: set[int], model: ModelArrays, workspace: Workspace
) -> Float32:
    mine = np.flatnonzero(dataset.users[:event] == dataset.users[event])
    mine = np.array(
        [e for e in mine.tolist() if int(dataset.rows[e]) not in hidden][-RING_EVENT_COUNT_MAX:],
        dtype=np.int64,
    )
    rows = model.rows_of(dataset.items.keys[dataset.rows[mine]])
    return vectorize(rows, dataset.codes[mine], dataset.times[mine], model, workspace)


def _place(user: Float32, vector: Float32, model: ModelArrays) -> int:
    return int(np.count_nonzero(model.factors @ user > vector @ user))


if __name__ == "__main__":
    main()
