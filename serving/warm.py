"""Compiles every kernel before the first request needs it, or loads it from numba's cache."""

from __future__ import annotations

import numpy as np

from profiles.codec import decode, merge, pack_event
from profiles.signals import Signal
from serving import kernels, tokens
from serving.candidates import Gatherer, Lists
from serving.catalogue import Catalogue, ItemRow
from serving.catalogue_warm import warm_up_catalogue
from serving.eligibility import BlockedKeys, EligibilityCache, Eligible
from serving.eligible_kernels import first_shown
from serving.encoding import encoded_items
from serving.selection import warm_up as warm_up_selection
from serving.trending import TrendingList
from vectorizer import warm_up as warm_up_vectorizer


def _warm_up_filters(catalogue: Catalogue) -> None:
    """Derives what a filter leaves, and catches up with a change."""
    cache = EligibilityCache(catalogue)
    for available in (False, True):
        rest = ("t", ["c"], ["g"], {"n": 1}, {"a": "w"}, 0.0, None)
        catalogue.apply([ItemRow(1, "i", *rest, available, False)], 0.0)
        cache.of(None, "tags:g AND title:t AND title>a")
    catalogue.apply([ItemRow(1, "i", *rest, False, False)], 0.0)
    cache.of(None, "tags:g AND title:t AND title>a")
    one, none = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.uint8)
    first_shown(one, none, one.copy())


def warm_up() -> None:
    """Blocks: seconds with a cache, a minute without."""
    warm_up_vectorizer()
    decode(merge(None, np.array([pack_event(1, Signal.VIEW, 1)], dtype=np.uint64), 1))
    keys, ones = np.zeros(1, dtype=np.int32), np.ones(1, dtype=np.float32)
    marks, mask = np.zeros(1, dtype=np.uint8), np.ones(1, dtype=np.bool_)
    catalogue = warm_up_catalogue()
    _warm_up_filters(catalogue)
    encoded_items(np.frombuffer(b"i", dtype=np.uint8), ones, marks)
    kernels.rows_of(keys, keys, keys.copy())
    kernels.hide_rows(keys, mask, marks.copy(), mask.copy())
    kernels.share_categories(np.ones(1, dtype=np.uint64), np.uint64(1), mask, ones.copy())
    warm_up_selection(catalogue, 1)
    eligible = Eligible(mask, marks, None, keys, keys)
    Gatherer().gather_without_model(Lists(TrendingList(keys, ones)), eligible, BlockedKeys(), 1)
    BlockedKeys().block(keys)
    tokens.read_page_token(tokens.make_page_token(keys, 0), 0)
