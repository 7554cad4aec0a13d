"""From the caller's item ids to the internal keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from ingest import limits
from runtime.postgres import Pool, postgres_errors


class ItemKeys:
    """Keys by id, from PostgreSQL, the recently used ones kept. A key is for ever, so nothing kept goes stale."""

    def __init__(self, pool: Pool, items_max: int = limits.KEY_CACHE_ITEMS_MAX) -> None:
        self._pool = pool
        self._items_max = items_max
        self._kept: OrderedDict[str, int] = OrderedDict()

    async def find(self, ids: Iterable[str]) -> dict[str, int]:
        """Keys of those ids that are known. Raises DependencyError when the database is needed and out of reach."""
        wanted = set(ids)
        found = {item: self._kept[item] for item in wanted if item in self._kept}
        if len(found) < len(wanted):
            found |= await self._query(sorted(wanted - found.keys()))
        self._keep(found)
        return found

    async def _query(self, ids: list[str]) -> dict[str, int]:
        with postgres_errors():
            async with self._pool.connection() as connection:
                rows = await connection.execute("SELECT id, key FROM items WHERE id = ANY(%s)", (ids,))
                return dict(await rows.fetchall())

    def _keep(self, found: dict[str, int]) -> None:
        for item, key in found.items():
            self._kept[item] = key
            self._kept.move_to_end(item)
        while len(self._kept) > self._items_max:
            self._kept.popitem(last=False)
