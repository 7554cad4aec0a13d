"""A vector for an item without events, from the words of its categories and tags: shared by training (fit) and serving (new items).

A word is known by a hash of its kind and text, so that a bundle holds numbers alone. The vector is the bias plus the sum of the
words' vectors, as training/content.py fits them to the items that have events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Hashes = NDArray[np.uint64]

HASH_BYTES = 8
EVENT_CONFIDENCE = (
    20.0  # of an event of weight 1 in what a new item learns: chosen on held-out items (docs/decisions/0011)
)
REMEMBERED_COUNT_MAX = 16_384  # hashes of words that repeat much: some 2 MB
_RANK = {"content_words": (np.uint64, 1), "content_vectors": (np.float32, 2), "content_bias": (np.float32, 1),
         "content_user_gram": (np.float32, 2)}  # fmt: skip


@lru_cache(maxsize=REMEMBERED_COUNT_MAX)
def word_hash(kind: str, word: str) -> int:
    """The hash of a word, 64 bits: the same in every process. `kind` is "c" of a category, "t" of a tag."""
    digest = hashlib.blake2b(f"{kind}:{word}".encode(errors="surrogatepass"), digest_size=HASH_BYTES)
    return int.from_bytes(digest.digest(), "little")


def hashes_of(categories: Iterable[str], tags: Iterable[str]) -> list[int]:
    """The distinct words of one item."""
    hashed = chain((word_hash("c", word) for word in categories), (word_hash("t", word) for word in tags))
    return list(dict.fromkeys(hashed))


@dataclass(frozen=True)
class WordLists:
    """The words of n items: those of item i are hashes[starts[i] : starts[i + 1]]."""

    hashes: Hashes  # (m,) uint64
    starts: NDArray[np.int64]  # (n + 1,) int64

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> WordLists:
        """Of each item's `hashes_of`."""
        counts = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        hashes = np.fromiter(chain.from_iterable(lists), dtype=np.uint64, count=int(counts.sum()))
        return cls(hashes, np.concatenate([[0], np.cumsum(counts)]))

    def take(self, items: NDArray[np.int64]) -> WordLists:
        """Of these items alone."""
        counts = np.diff(self.starts)[items]
        starts = np.concatenate([[0], np.cumsum(counts)])
        at = np.repeat(self.starts[items] - starts[:-1], counts) + np.arange(int(counts.sum()))
        return WordLists(self.hashes[at], starts)


@dataclass(frozen=True)
class ContentModel:
    """w words, d factors; read-only."""

    words: Hashes  # (w,) uint64, ascending
    vectors: Float32  # (w, d) float32
    bias: Float32  # (d,) float32: what is expected of an item of which nothing is known
    user_gram: Float32  # (d, d) float32: sum of x x^T of all users' vectors, plus the regularisation

    def vector_of(self, hashes: Sequence[int]) -> Float32:
        """(d,) float32 of an item with these words; those that are not known say nothing."""
        asked = np.array(hashes, dtype=np.uint64)
        if not len(asked) or not len(self.words):
            return self.bias.copy()
        at = np.minimum(np.searchsorted(self.words, asked), len(self.words) - 1)
        known = at[self.words[at] == asked]
        return np.asarray(self.bias + self.vectors[known].sum(axis=0), dtype=np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As a bundle stores it."""
        return {name: getattr(self, name.removeprefix("content_")) for name in _RANK}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], factor_count: int) -> ContentModel | None:
        """The model of a bundle's arrays; None where it has none. ValueError where they do not fit together."""
        if not set(_RANK) <= set(arrays):
            return None
        found = cls(**{name.removeprefix("content_"): arrays[name] for name in _RANK})
        good = all(
            arrays[name].dtype == dtype and arrays[name].ndim == rank for name, (dtype, rank) in _RANK.items()
        )
        shapes = (found.vectors.shape, found.bias.shape, found.user_gram.shape)
        d = factor_count
        if not good or shapes != ((len(found.words), d), (d,), (d, d)):
            raise ValueError("its content vectors are not of its factors")
        return found


def learnt_vector(expected: Float32, user_gram: Float32, vectors: Float32, confidence: Float32) -> Float32:
    """(d,) float32: an item's vector from what was expected of it and the vectors (k, d) of those who touched it since.

    confidence (k,) float32 is that of each. The item's side of iALS (Hu, Koren and Volinsky, 2008, equation 5) around `expected` in place of zero: least of
    (y - expected)^T G (y - expected) + sum of confidence * (1 - x . y)^2, with G the users' gram. Without events it is `expected`.
    """
    gram = user_gram.astype(np.float64)
    seen = vectors.astype(np.float64)
    left = gram + (seen.T * confidence) @ seen
    right = gram @ expected + confidence @ seen
    return np.linalg.solve(left, right).astype(np.float32)
