"""One row of a file of items -> one item of the contract; and the items that only events name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import psycopg
from reco.ingest.v1 import item_pb2

from runtime.postgres import CONNECT_WAIT_S_MAX
from training.columns import MappedItem

# The contract's limits of an item (proto/reco/ingest/v1/item.proto): what is longer is cut, since only ids must be whole.
TITLE_CHARACTER_COUNT_MAX = 512
CATEGORY_COUNT_MAX = 32
CATEGORY_CHARACTER_COUNT_MAX = 64
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # protobuf refuses half a character, PostgreSQL a NUL
SEEN_COUNT_MAX = 200_000  # ids remembered as known: some 20 MB; one that was forgotten is asked for again


def to_item(item: MappedItem) -> item_pb2.Item:
    """The item; its release becomes the attribute `year` and, roughly, its time of creation."""
    title = UNSTORABLE.sub("\ufffd", item.title)[:TITLE_CHARACTER_COUNT_MAX]
    names = [UNSTORABLE.sub("\ufffd", name)[:CATEGORY_CHARACTER_COUNT_MAX] for name in item.categories]
    made = item_pb2.Item(
        id=item.item, title=title, categories=list(dict.fromkeys(names))[:CATEGORY_COUNT_MAX]
    )
    if item.released >= 1:
        made.numeric_attributes["year"] = int(item.released)
        made.create_time.FromDatetime(datetime(int(item.released), 1, 1, tzinfo=UTC))
    return made


class UnknownItems:
    """Finds items that nobody has described. An upsert replaces, so what is known must be left alone."""

    def __init__(self, postgres_url: str) -> None:
        self._postgres_url = postgres_url
        self._seen: set[str] = set()

    def among(self, ids: Iterable[str]) -> list[item_pb2.Item]:
        """Bare items for those that the database does not have. Raises psycopg.OperationalError."""
        new = [item for item in dict.fromkeys(ids) if item not in self._seen]
        if not new:
            return []
        with psycopg.connect(self._postgres_url, connect_timeout=CONNECT_WAIT_S_MAX) as connection:
            rows = connection.execute("SELECT id FROM items WHERE id = ANY(%s)", (new,))
            known = {row[0] for row in rows}
        return [item_pb2.Item(id=item) for item in new if item not in known]

    def remember(self, ids: Iterable[str]) -> None:
        """These are known now."""
        if len(self._seen) > SEEN_COUNT_MAX:
            self._seen.clear()
        self._seen.update(ids)
