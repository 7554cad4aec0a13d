"""Items and users into PostgreSQL: each request is one statement, so it is done whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from reco.errors.v1 import error_reason_pb2
from reco.ingest.v1.item_pb2 import Availability, Item
from reco.ingest.v1.user_pb2 import User

from ingest.texts import NUL, texts_of
from profiles.item_news import ItemNews
from runtime.errors import CallerError
from runtime.postgres import DATABASE, Pool, postgres_errors

# Known rows are updated and only the others inserted: an upsert by INSERT alone would draw a key for each known row too,
# and keys are few (28 bits). Rows are locked in the order of their ids, so that two requests can't block each other.
_UPSERT_ITEMS = f"""
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
  RETURNING items.key, items.available AND coalesce(items.expire_time > now(), true) AS offered
), inserted AS (
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
RETURNING items.key, items.available AND coalesce(items.expire_time > now(), true) AS offered, items.xmax = 0 AS is_new
)
SELECT (SELECT count(*) FROM inserted WHERE is_new), {DATABASE}, pg_current_xact_id()::text::bigint,
  array(SELECT key FROM inserted WHERE NOT offered UNION ALL SELECT key FROM updated WHERE NOT offered)
"""  # noqa: S608 -- a constant of ours

# Those that were deleted before are told again: whoever deleted them may not have come to it yet.
_DELETE_ITEMS = f"""
WITH known AS (SELECT id, key, deleted FROM items WHERE id = ANY(%s) ORDER BY id FOR UPDATE), deleted AS (
  UPDATE items SET deleted = true, changed_xid = pg_current_xact_id() FROM known
  WHERE items.id = known.id AND NOT known.deleted RETURNING items.key
)
SELECT (SELECT count(*) FROM deleted), {DATABASE}, pg_current_xact_id()::text::bigint, array(SELECT key FROM known)
"""  # noqa: S608 -- a constant of ours

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


@dataclass(frozen=True)
class Change:
    """What became of a request's items, and what serving is to be told of it."""

    count: int  # created, or deleted now
    rest: int  # updated, or not there
    news: ItemNews


async def upsert_items(pool: Pool, items: Sequence[Item]) -> Change:
    """Creates or replaces items, the last of each id. Counts those created, and updated."""
    rows = {item.id: _item(item, f"items[{i}]") for i, item in enumerate(items)}
    return _change(await _run(pool, _UPSERT_ITEMS, (_json(rows),)), len(rows))


async def delete_items(pool: Pool, ids: Sequence[str]) -> Change:
    """Marks items as deleted. Counts those deleted now, and those that were not there."""
    wanted = set(ids)
    for i, item_id in enumerate(ids):
        _refuse_nul([item_id], f"item_ids[{i}]")
    return _change(await _run(pool, _DELETE_ITEMS, (sorted(wanted),)), len(wanted))


def _change(rows: list[tuple[Any, ...]], wanted: int) -> Change:
    [(count, database, xid, gone)] = rows
    return Change(count, wanted - count, ItemNews(database, xid, tuple(gone)))


async def upsert_users(pool: Pool, users: Sequence[User]) -> tuple[int, int]:
    """Creates or replaces users, the last of each id. Returns how many were created, and updated."""
    rows = {user.id: _user(user, f"users[{i}]") for i, user in enumerate(users)}
    created = sum(row[0] for row in await _run(pool, _UPSERT_USERS, (_json(rows),)))
    return created, len(rows) - created


async def _run(pool: Pool, statement: Any, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """What the statement returns, when it is committed."""
    try:
        with postgres_errors():
            async with pool.connection() as connection:
                return await (await connection.execute(statement, arguments)).fetchall()
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
