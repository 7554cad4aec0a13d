"""How many events a day has, and a checksum of them, found the same way in Postgres and in the lake.

A row is a text in which each value stands with its length, so that no two rows have the same one; the checksum is the sum of the
texts' MD5, so that no order is needed. Numbers are told to 15 digits, which both databases write the same. The place in the
stream is not looked at: a dead letter that was replayed has one of its own in each sink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import duckdb
from psycopg import AsyncConnection, sql

FIGURES_WAIT_MS_MAX = 3_600_000  # a day of 10,000 events a second takes half an hour
LAKE_THREADS = 1  # the consumer carries on meanwhile
_TEXTS = (
    "event_id",
    "subject",
    "user_id",
    "session_id",
    "item_id",
    "custom_type",
    "attribution_token",
    "surface",
)
_NUMBERS = ("item_key", "type")
_TIMES = ("event_time", "accept_time")


@dataclass(frozen=True)
class Figures:
    """Of one day. `checksum` is two sums of 60 bits of each row's MD5, in hex."""

    row_count: int
    checksum: str


async def postgres_figures(connection: AsyncConnection[Any], table: str) -> Figures:
    """Of all rows of a day's partition, attached or not. The connection is in autocommit."""
    async with connection.transaction():
        await connection.execute("SET LOCAL extra_float_digits = 0")  # 15 digits
        await connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(FIGURES_WAIT_MS_MAX))
        query = sql.SQL(cast(Any, POSTGRES)).format(table=sql.Identifier(table))
        return _figures(await (await connection.execute(query)).fetchone())


def lake_figures(connection: duckdb.DuckDBPyConnection) -> Figures:
    """Of the view `events`, which holds one day's. Of those with the same id the first of the stream counts, as in Postgres."""
    connection.execute(f"SET threads = {LAKE_THREADS}")
    return _figures(connection.execute(LAKE).fetchone())


def _figures(row: Sequence[Any] | None) -> Figures:
    assert row is not None, "an aggregate has a row"
    count, first, second = row
    return Figures(int(count), f"{int(first or 0):x}-{int(second or 0):x}")


def _postgres_part(value: str) -> str:
    """A text, or null, with its length in bytes."""
    return f"coalesce(octet_length({value}) || ':' || {value}, '-')"


def _lake_part(value: str) -> str:
    return f"coalesce(strlen({value}) || ':' || {value}, '-')"


# The context, flat: each entry of it and of its attributes, sorted by bytes.
_POSTGRES_ENTRIES = """
(SELECT coalesce(string_agg(entry, ',' ORDER BY entry COLLATE "C"), '') FROM (
  SELECT p.place || octet_length(e.key) || ':' || e.key || '=' || CASE jsonb_typeof(e.value)
    WHEN 'string' THEN 's' || octet_length(e.value #>> '{{}}') || ':' || (e.value #>> '{{}}')
    WHEN 'number' THEN 'n' || ((e.value #>> '{{}}')::float8)::text
    WHEN 'boolean' THEN 'b' || (e.value #>> '{{}}')
    WHEN 'null' THEN 'z'
    ELSE '?' END AS entry
  FROM (VALUES ('', context - 'attributes'), ('a', coalesce(context -> 'attributes', '{{}}'))) AS p (place, entries),
    jsonb_each(p.entries) AS e
) AS flat)"""


def _lake_entries(place: str, entries: str) -> str:
    value = "e.value ->> '$'"
    return f"""
list_transform(map_entries(({entries})::MAP(VARCHAR, JSON)), lambda e:
  '{place}' || strlen(e.key) || ':' || e.key || '=' || CASE coalesce(json_type(e.value), 'NULL')
    WHEN 'VARCHAR' THEN 's' || strlen({value}) || ':' || ({value})
    WHEN 'BOOLEAN' THEN 'b' || ({value})
    WHEN 'NULL' THEN 'z'
    WHEN 'OBJECT' THEN '?'
    WHEN 'ARRAY' THEN '?'
    ELSE 'n' || printf('%.15g', ({value})::DOUBLE + 0) END)"""  # + 0: jsonb knows no -0


_WITHOUT = """json_merge_patch(context::JSON, '{"attributes": null}')"""
_ATTRIBUTES = "coalesce(context::JSON -> '$.attributes', '{}'::JSON)"
_LAKE_ENTRIES = f"""array_to_string(list_sort(list_concat(
  {_lake_entries("", _WITHOUT)}, {_lake_entries("a", _ATTRIBUTES)})), ',')"""
_LAKE_VALUE = """CASE WHEN isnan(value) THEN 'NaN' WHEN isinf(value) THEN if(value > 0, 'Infinity', '-Infinity')
  ELSE printf('%.15g', value) END"""

_POSTGRES_ROW = " || ".join([
    *map(_postgres_part, _TEXTS),
    *(_postgres_part(f"{name}::text") for name in _NUMBERS),
    *(_postgres_part(f"(extract(epoch FROM {name}) * 1000000)::bigint::text") for name in _TIMES),
    _postgres_part("value::text"),
    f"CASE WHEN context IS NULL THEN '-' ELSE {_POSTGRES_ENTRIES} END",
])  # fmt: skip
_LAKE_ROW = " || ".join([
    *map(_lake_part, _TEXTS),
    *(_lake_part(f"{name}::VARCHAR") for name in _NUMBERS),
    *(_lake_part(f"epoch_us({name})::VARCHAR") for name in _TIMES),
    _lake_part(f"({_LAKE_VALUE})"),
    f"CASE WHEN context IS NULL THEN '-' ELSE {_LAKE_ENTRIES} END",
])  # fmt: skip

POSTGRES = f"""
SELECT count(*), sum(('x' || substr(digest, 1, 15))::bit(60)::bigint), sum(('x' || substr(digest, 16, 15))::bit(60)::bigint)
FROM (SELECT md5({_POSTGRES_ROW}) AS digest FROM {{table}}) AS digests
"""  # noqa: S608 -- constants of ours
LAKE = f"""
SELECT count(*), sum(('0x' || substr(digest, 1, 15))::BIGINT), sum(('0x' || substr(digest, 16, 15))::BIGINT)
FROM (
  SELECT md5({_LAKE_ROW}) AS digest FROM events
  QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY stream_offset) = 1
)
"""  # noqa: S608 -- constants of ours
