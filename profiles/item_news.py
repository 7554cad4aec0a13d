"""What ingest tells serving about items when it has committed: a hint to look, and what must not be answered any more."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

CHANNEL = "reco:items"
GONE_COUNT_MAX = 1_000  # the contract's limit of items in a request: some 10 KB


@dataclass(frozen=True)
class ItemNews:
    """One transaction that changed items."""

    database: str  # runtime.postgres.DATABASE: several may share a Redis
    xid: int  # the transaction's number
    gone: tuple[
        int, ...
    ]  # keys of the items that it deleted, or made unavailable; those that it added are read from the table


def encode(news: ItemNews) -> bytes:
    """As it is published."""
    assert len(news.gone) <= GONE_COUNT_MAX
    return orjson.dumps({"database": news.database, "xid": news.xid, "gone": news.gone})


def decode(message: bytes) -> ItemNews | None:
    """What was published; None where that can't be read: another version's, then the table tells."""
    try:
        body = orjson.loads(message)
        gone = tuple(body["gone"])
        if not all(type(key) is int and 0 <= key < 1 << 31 for key in gone):
            return None
        return ItemNews(str(body["database"]), int(body["xid"]), gone)
    except (ValueError, TypeError, KeyError):
        return None
