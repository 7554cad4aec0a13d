"""What the catalogue knows of an item: 30 attribute columns (10 numbers, 18 texts, categories and tags), and the rest of its row.

Kept as arrays and vocabularies; a row becomes text when it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.generate.factors import Catalogue
from bench.generate.users import UNTIL_S

NUMBERS = (
    "price",
    "rating",
    "rating_count",
    "weight_g",
    "height_mm",
    "width_mm",
    "stock",
    "delivery_days",
    "lot",
    "appeal",
)
# Two columns for filters of any share: each whole number below RANK_END stands for the same share of the items. `lot` is drawn;
# `appeal` rises with the inner product with the taste of those who like the largest cluster: to them, what passes
# `appeal>=x` is what they like best, and what passes `appeal<x` what they like least.
RANK_END = 1_000_000
# Texts and how many words each has: from a yes or no to one that a fifth of a percent of the items share.
TEXTS = {
    "brand": 500, "colour": 24, "material": 40, "size": 30, "country": 60, "season": 4, "gender": 3, "age_group": 6,
    "condition": 3, "warranty": 5, "seller": 400, "shipping": 4, "style": 80, "pattern": 30, "energy": 7, "series": 300,
    "language": 40, "gift": 2,
}  # fmt: skip
CATEGORIES, TAGS = 48, 200  # words; an item has one or two categories, and up to four tags
YEAR_MIN, YEAR_MAX = 1990, 2026
assert len(NUMBERS) + len(TEXTS) + 2 == 30


@dataclass(frozen=True)
class Attributes:
    """(n, ...) arrays; a word is a number in its column's vocabulary, -1 where there is none."""

    numbers: NDArray[np.float32]  # (n, 10)
    texts: NDArray[np.int16]  # (n, 18)
    categories: NDArray[np.int16]  # (n, 2)
    tags: NDArray[np.int16]  # (n, 4)
    released: NDArray[np.int16]  # (n,) years
    created_s: NDArray[np.int64]  # (n,) unix seconds


def generate(catalogue: Catalogue, rng: np.random.Generator) -> Attributes:
    """The attributes of all items."""
    n = len(catalogue.norms)
    numbers = np.round(np.exp(rng.standard_normal((n, len(NUMBERS)), dtype=np.float32)) * 20, 2)
    numbers[:, NUMBERS.index("lot")] = _ranked(numbers[:, NUMBERS.index("lot")])
    numbers[:, NUMBERS.index("appeal")] = _ranked(catalogue.factors @ _largest_taste(catalogue))
    skewed = rng.random((n, len(TEXTS)), dtype=np.float32) ** 2  # few words are on many items
    texts = (skewed * np.array(list(TEXTS.values()))).astype(np.int16)
    categories = np.stack([catalogue.clusters % CATEGORIES, rng.integers(-CATEGORIES, CATEGORIES, n)], axis=1)
    tags = rng.integers(-TAGS, TAGS, (n, 4))  # half of the places stay empty
    years = rng.integers(YEAR_MIN, YEAR_MAX, n)
    created_s = UNTIL_S - rng.integers(40 * 86_400, 1_000 * 86_400, n)  # none of them counts as new
    return Attributes(numbers, texts, _words(categories), _words(tags), years.astype(np.int16), created_s)


def _largest_taste(catalogue: Catalogue) -> NDArray[np.float32]:
    """(d,) float32, what the popular items of the largest cluster have in common."""
    members = catalogue.clusters == np.bincount(catalogue.clusters).argmax()
    return np.asarray(catalogue.popularity[members] @ catalogue.factors[members], dtype=np.float32)


def _ranked(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) float32 whole numbers from 0 to below RANK_END, in the order of the values (n,)."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return (ranks * RANK_END // max(1, len(values))).astype(np.float32)


def _words(drawn: NDArray[np.int64]) -> NDArray[np.int16]:
    """What was drawn below zero is no word."""
    return np.maximum(drawn, -1).astype(np.int16)


def category_masks(attributes: Attributes) -> NDArray[np.uint64]:
    """(n,) uint64, a bit for each category."""
    bits = np.where(
        attributes.categories >= 0, np.uint64(1) << attributes.categories.clip(0).astype(np.uint64), 0
    )
    return np.asarray(np.bitwise_or.reduce(bits.astype(np.uint64), axis=1))


def item_id(key: int) -> str:
    """The caller's id of the item with this key."""
    return f"item-{key:08d}"


def user_id(user: int) -> str:
    """The id of a generated user."""
    return f"user-{user:07d}"


Row = tuple[str, str, list[str], list[str], str, str, int]


def catalogue_rows(attributes: Attributes, keys: NDArray[np.int32]) -> Iterator[Row]:
    """(id, title, categories, tags, numbers as JSON, texts as JSON, create time in unix seconds) by rising key."""
    words = [[json.dumps(f"{name} {i}") for i in range(count)] for name, count in TEXTS.items()]
    heads = [json.dumps(name) + ": " for name in TEXTS]
    for row in np.argsort(keys):
        key = int(keys[row])
        number = ", ".join(
            f'"{name}": {value:.2f}'
            for name, value in zip(NUMBERS, attributes.numbers[row].tolist(), strict=True)
        )
        texts = attributes.texts[row].tolist()
        text = ", ".join([head + column[at] for head, column, at in zip(heads, words, texts, strict=True)])
        categories = sorted({f"category {at}" for at in attributes.categories[row].tolist() if at >= 0})
        tags = sorted({f"tag {at}" for at in attributes.tags[row].tolist() if at >= 0})
        title = f"A thing called {key}, of {attributes.released[row]}"
        yield (
            item_id(key),
            title,
            categories,
            tags,
            f"{{{number}}}",
            f"{{{text}}}",
            int(attributes.created_s[row]),
        )
