"""Compiles the catalogue's kernels for the types of arrays that it has, or loads them from numba's cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving import text_kernels
from serving.catalogue import Catalogue, ItemRow
from serving.expiry import earliest_after
from serving.filter_syntax import parse
from serving.filters import evaluate
from serving.kernels import mark_lists
from serving.texts import kept_texts

CODE_TYPES: tuple[type[np.unsignedinteger[Any]], ...] = (np.uint8, np.uint16, np.uint32)


def warm_up_catalogue() -> Catalogue:
    """Blocks: a second with a cache, some ten without. Returns a catalogue of one item to go on with."""
    catalogue = Catalogue()
    catalogue.apply([ItemRow(1, "i", "t", ["c"], ["g"], {"n": 1}, {"a": "w"}, 0.0, None, True, False)], 0.0)
    for text in ("title:t", "title>t", "title=t", "tags:g", "n>0"):
        evaluate(parse(text), catalogue)
    catalogue.ids_of(catalogue.keys_of(["i"]))
    catalogue.apply([ItemRow(1, "i", "t", [], [], {}, {}, 0.0, 1.0, True, False)], 0.0)
    catalogue.expire(2.0)
    earliest_after(np.zeros(1), 0.0)
    words = catalogue.title.words
    kept_texts(words, np.array([1]))
    for code_type in CODE_TYPES:
        _warm_up_codes(np.ones(1, dtype=code_type))
        words.joined(np.ones(1, dtype=code_type))
    return catalogue


def _warm_up_codes(codes: np.ndarray) -> None:
    starts, counts, out = (
        np.zeros(1, dtype=np.uint32),
        np.ones(1, dtype=np.uint8),
        np.zeros(2, dtype=np.bool_),
    )
    mark_lists(starts, counts, codes, np.int32(1), out)
    text_kernels.look_up(out, codes, out[:1].copy())
    text_kernels.pack_runs(starts, counts, codes, codes.copy())
