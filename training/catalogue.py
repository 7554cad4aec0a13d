"""What training knows of the items apart from their events: read from Postgres."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from psycopg import Connection

from training.dataset import Items, category_masks, year_of
from vectorizer.content import WordLists, hashes_of

YEAR_ATTRIBUTE = "year"  # an item's release where it has one; otherwise its creation stands for it
DAYS_PER_YEAR = 365.2425

_QUERY = "SELECT key, id, categories, create_time, numeric_attributes ->> %s, tags FROM items ORDER BY key"


def read_items(connection: Connection[Any]) -> Items:
    """All items that were ever upserted, deleted ones too: their events teach, though they are not recommended."""
    rows = connection.execute(_QUERY, (YEAR_ATTRIBUTE,)).fetchall()
    return Items(
        keys=np.array([row[0] for row in rows], dtype=np.int32),
        categories=category_masks([row[2] for row in rows]),
        released=np.array([_released(row[3], row[4]) for row in rows], dtype=np.float32),
        ids=tuple(row[1] for row in rows),
        given_words=WordLists.of([hashes_of(row[2], row[5]) for row in rows]),
    )


def _released(create_time: datetime, year: str | None) -> float:
    """In years, with a fraction."""
    if year is not None:
        return year_of(year)
    start = datetime(create_time.astimezone(UTC).year, 1, 1, tzinfo=UTC)
    return start.year + (create_time - start).days / DAYS_PER_YEAR
