"""Items and users into PostgreSQL: each request is one statement, so it is done whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from reco.errors.v1 import error_reason_pb2
from reco.ingest.v1.item_pb2 import Availability, Item
from reco.ingest.v1.user_pb2 import User

from ingest.texts import NUL, texts_of
from runtime.errors import CallerError
from runtime.postgres import Pool, postgres_errors

# Known rows are updated and only the others inserted: an upsert by INSERT alone would draw a key for each known row too,
# and keys are few (28 bits). Rows are locked in the order of their ids, so that two requests can't block each other.
_UPSERT_ITEMS = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset(%s::jsonb) AS g (
    id text, title text, categories text[], tags text[], numeric_attributes jsonb, string_attributes jsonb,
    create_time timestamptz, expire_time timestamptz, available boolean, media_url text
  )
), known AS (
  SELECT id FROM items WHERE id IN (SELECT id FROM given) ORDER BY id FOR UPDATE
), updated AS (
  UPDATE items SET
    title = given.title, categories = given.categories, tags = given.tags,
    numeric_attributes = given.numeric_attributes, string_attributes = given.string_attributes,
    create_time = coalesce(given.create_time, items.create_time), expire_time = given.expire_time,
    available = given.available, media_url = given.media_url, deleted = false, changed_xid = pg_current_xact_id()
  FROM given JOIN known USING (id) WHERE items.id = given.id
  RETURNING items.id
)
INSERT INTO items (
  id, title, categories, tags, numeric_attributes, string_attributes, create_time, expire_time, available, media_url
)
SELECT id, title, categories, tags, numeric_attributes, string_attributes, coalesce(create_time, now()), expire_time,
  available, media_url
FROM given WHERE NOT EXISTS (SELECT FROM known WHERE known.id = given.id) ORDER BY id
ON CONFLICT (id) DO UPDATE SET
  title = excluded.title, categories = excluded.categories, tags = excluded.tags,
  numeric_attributes = excluded.numeric_attributes, string_attributes = excluded.string_attributes,
  expire_time = excluded.expire_time, available = excluded.available, media_url = excluded.media_url,
  deleted = false, changed_xid = pg_current_xact_id()
RETURNING xmax = 0
"""

_DELETE_ITEMS = """
WITH known AS (SELECT id FROM items WHERE id = ANY(%s) AND NOT deleted ORDER BY id FOR UPDATE)
UPDATE items SET deleted = true, changed_xid = pg_current_xact_id() FROM known WHERE items.id = known.id
"""

_UPSERT_USERS = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset(%s::jsonb) AS g (
    id text, numeric_attributes jsonb, string_attributes jsonb, create_time timestamptz
  )
)
INSERT INTO users (id, numeric_attributes, string_attributes, create_time)
SELECT given.id, given.numeric_attributes, given.string_attributes, coalesce(given.create_time, users.create_time, now())
FROM given LEFT JOIN users USING (id) ORDER BY given.id
ON CONFLICT (id) DO UPDATE SET
  numeric_attributes = excluded.numeric_attributes, string_attributes = excluded.string_attributes,
  create_time = excluded.create_time, changed_time = now()
RETURNING xmax = 0
"""


async def upsert_items(pool: Pool, items: Sequence[Item]) -> tuple[int, int]:
    """Creates or replaces items, the last of each id. Returns how many were created, and updated."""
    rows = {item.id: _item(item, f"items[{i}]") for i, item in enumerate(items)}
    created = sum(await _run(pool, _UPSERT_ITEMS, (_json(rows),)))
    return created, len(rows) - created


async def delete_items(pool: Pool, ids: Sequence[str]) -> tuple[int, int]:
    """Marks items as deleted. Returns how many were deleted now, and how many were not there."""
    wanted = set(ids)
    for i, item_id in enumerate(ids):
        _refuse_nul([item_id], f"item_ids[{i}]")
    with postgres_errors():
        async with pool.connection() as connection:
            deleted = (await connection.execute(_DELETE_ITEMS, (sorted(wanted),))).rowcount
    return deleted, len(wanted) - deleted


async def upsert_users(pool: Pool, users: Sequence[User]) -> tuple[int, int]:
    """Creates or replaces users, the last of each id. Returns how many were created, and updated."""
    rows = {user.id: _user(user, f"users[{i}]") for i, user in enumerate(users)}
    created = sum(await _run(pool, _UPSERT_USERS, (_json(rows),)))
    return created, len(rows) - created


async def _run(pool: Pool, statement: Any, arguments: tuple[Any, ...]) -> list[bool]:
    """The first column of what the statement returns."""
    try:
        with postgres_errors():
            async with pool.connection() as connection:
                return [row[0] for row in await (await connection.execute(statement, arguments)).fetchall()]
    except psycopg.DataError as error:
        message = f"PostgreSQL can't hold a value of the request: {error.diag.message_primary}"
        raise CallerError(error_reason_pb2.ERROR_REASON_FIELD_INVALID, message) from None


def _item(item: Item, field: str) -> dict[str, Any]:
    _refuse_nul(texts_of(item), field)
    return {
        "id": item.id, "title": item.title, "categories": list(item.categories), "tags": list(item.tags),
        "numeric_attributes": dict(item.numeric_attributes), "string_attributes": dict(item.string_attributes),
        "create_time": _time(item, "create_time", field), "expire_time": _time(item, "expire_time", field),
        "available": item.availability != Availability.AVAILABILITY_UNAVAILABLE, "media_url": item.media_url,
    }  # fmt: skip


def _user(user: User, field: str) -> dict[str, Any]:
    _refuse_nul(texts_of(user), field)
    return {
        "id": user.id, "numeric_attributes": dict(user.numeric_attributes),
        "string_attributes": dict(user.string_attributes), "create_time": _time(user, "create_time", field),
    }  # fmt: skip


def _time(message: Item | User, name: str, field: str) -> str | None:
    if not message.HasField(name):  # type: ignore[arg-type]  # the stubs want a literal
        return None
    time: Timestamp = getattr(message, name)
    try:
        return time.ToJsonString()
    except ValueError:
        raise _invalid(f"{field}.{name}", "must be between the years 1 and 9999") from None


def _refuse_nul(texts: Any, field: str) -> None:
    if any(NUL in text for text in texts):
        raise _invalid(field, "a text holds a NUL")


def _invalid(field: str, description: str) -> CallerError:
    metadata = {"field": field, "rule": "storable", "description": description}
    return CallerError(error_reason_pb2.ERROR_REASON_FIELD_INVALID, f"{field}: {description}", metadata)


def _json(rows: dict[str, dict[str, Any]]) -> str:
    return orjson.dumps(list(rows.values())).decode()
