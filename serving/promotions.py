"""Who else is a candidate because of a surface's rules: what is pinned, and the best that are promoted."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.errors import CallerError
from serving import select_kernels
from serving.catalogue import Catalogue
from serving.eligibility import BlockedKeys, EligibilityCache
from serving.eligible import Eligible
from serving.model import LoadedModel
from serving.rules import Promotion, Rules

Keys = NDArray[np.int32]
NO_KEYS: Keys = np.zeros(0, dtype=np.int32)
PROMOTED_SPARE: Final = 20  # beyond what its places take: the best of them by the user's taste get those


def pinned_keys(rules: Rules, catalogue: Catalogue) -> Keys:
    """(m,) int32 keys of the pinned items that there are."""
    return catalogue.keys_of(pin.item_id for pin in rules.pins) if rules.pins else NO_KEYS


def promoted_keys(
    rules: Rules,
    catalogue: Catalogue,
    eligibility: EligibilityCache,
    model: LoadedModel | None,
    eligible: Eligible,
    blocked: BlockedKeys,
) -> Keys:
    """(m,) int32: the pinned, and of each promotion enough for its places, the most popular first."""
    if not (rules.pins or rules.promotions):
        return NO_KEYS
    found = [pinned_keys(rules, catalogue)]
    for promotion, filter_text in zip(rules.promotions, rules.promotion_filters, strict=True):
        out = np.empty(int(np.ceil(promotion.share * rules.page_size)) + PROMOTED_SPARE, dtype=np.int32)
        size = 0
        for listed in _listed(promotion, filter_text, catalogue, eligibility, model):
            size += select_kernels.first_allowed(listed, eligible.mask, blocked.table, out[size:])
        found.append(out[:size])
    return np.concatenate(found)


def _listed(
    promotion: Promotion,
    filter_text: str,
    catalogue: Catalogue,
    eligibility: EligibilityCache,
    model: LoadedModel | None,
) -> tuple[Keys, ...]:
    """What the promotion names, the most popular first, then what no model knows; allowed or not."""
    if promotion.item_ids:
        return (catalogue.keys_of(promotion.item_ids),)
    try:
        passing = eligibility.of(model, filter_text)
    except CallerError:  # the operator's, not the caller's: no item has that attribute any more, or yet
        return ()
    return passing.popular_keys, passing.unmodelled_keys
