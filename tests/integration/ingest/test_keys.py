"""Item keys by id: from the database once, then from memory, within a bound."""

from __future__ import annotations

import pytest

from ingest.keys import ItemKeys
from runtime.errors import DependencyError
from runtime.postgres import Pool, make_pool
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import items


async def test_known_ids_are_found_and_unknown_ones_left_out(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items(3))

    assert await ItemKeys(ingest.pool).find(["item-0", "item-2", "nobody"]) == {"item-0": 1, "item-2": 3}


async def test_what_was_found_needs_no_database_and_the_oldest_use_is_forgotten(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.stub.UpsertItems(items(4))
    keys = ItemKeys(ingest.pool, items_max=2)
    for item in ("item-0", "item-1", "item-0", "item-2"):
        await keys.find([item])

    monkeypatch.setattr(keys, "_pool", closed_pool())
    assert await keys.find(["item-0", "item-2"]) == {"item-0": 1, "item-2": 3}
    with pytest.raises(DependencyError, match="postgres does not answer"):
        await keys.find(["item-1"])


def closed_pool() -> Pool:
    """A pool that nobody opened."""
    return make_pool("postgresql://nowhere")
