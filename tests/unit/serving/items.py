"""Catalogues in memory."""

from __future__ import annotations

from typing import Any

from serving.catalogue import NEVER_S, Catalogue, ItemRow

NOW_S = 1_800_000_000.0


def item(key: int, **changes: Any) -> ItemRow:
    """An item with everything ordinary but what is given."""
    values: dict[str, Any] = {
        "key": key, "id": f"i{key}", "title": f"Title {key}", "categories": [], "tags": [], "numbers": {}, "texts": {},
        "create_s": NOW_S - 86_400, "expire_s": NEVER_S, "available": True, "deleted": False,
    }  # fmt: skip
    return ItemRow(**{**values, **changes})


def catalogue_of(*items: ItemRow) -> Catalogue:
    """A view of these items."""
    catalogue = Catalogue()
    catalogue.apply(items, NOW_S)
    return catalogue
