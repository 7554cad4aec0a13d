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

BLOCKS_MAX = 2_000  # of one look at Postgres: 16 MB, some 60,000 rows, a second
LAKE_ROWS_MAX = 10_000_000  # of one look at the lake: some 1 GB
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
    """Of one day, or a part of it: the sums of 60 bits of each row's MD5, and of 60 others."""

    row_count: int = 0
    first_sum: int = 0
    second_sum: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.row_count + other.row_count,
            self.first_sum + other.first_sum,
            self.second_sum + other.second_sum,
        )

    @property
    def checksum(self) -> str:
        """Both sums in hex."""
        return f"{self.first_sum:x}-{self.second_sum:x}"


async def postgres_figures(connection: AsyncConnection[Any], table: str) -> Figures:
    """Of all rows of a day's partition, attached or not. The connection is in autocommit.

    Piece by piece, so that no statement runs for long and vacuum is not held up. A row that comes meanwhile may be missed.
    """
    name = sql.Identifier(table)
    size = sql.SQL("SELECT pg_relation_size({}) / current_setting('block_size')::int").format(
        sql.Literal(table)
    )
    row = await (await connection.execute(size)).fetchone()
    found = Figures()
    for first in range(0, int(row[0]) if row else 0, BLOCKS_MAX):
        place = {"first": sql.Literal(f"({first},0)"), "end": sql.Literal(f"({first + BLOCKS_MAX},0)")}
        async with connection.transaction():
            await connection.execute("SET LOCAL extra_float_digits = 0")  # 15 digits
            query = sql.SQL(cast(Any, POSTGRES)).format(table=name, **place)
            found += _figures(await (await connection.execute(query)).fetchone())
    return found


def lake_figures(connection: duckdb.DuckDBPyConnection) -> Figures:
    """Of the view `events`, which holds one day's. Of those with the same id the first of the stream counts, as in Postgres.

    A share of the ids at a time: to find those that came twice takes memory for each row.
    """
    connection.execute(f"SET threads = {LAKE_THREADS}")
    row = connection.execute("SELECT count(*) FROM events").fetchone()
    shares = -(-int(row[0]) // LAKE_ROWS_MAX) if row else 0
    parts = (connection.execute(LAKE, [shares, share]).fetchone() for share in range(shares))
    return sum(map(_figures, parts), Figures())


def _figures(row: Sequence[Any] | None) -> Figures:
    assert row is not None, "an aggregate has a row"
    count, first, second = row
    return Figures(int(count), int(first or 0), int(second or 0))


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
FROM (
  SELECT md5({_POSTGRES_ROW}) AS digest FROM {{table}} WHERE ctid >= {{first}} AND ctid < {{end}}
) AS digests
"""  # noqa: S608 -- constants of ours
LAKE = f"""
SELECT count(*), sum(first), sum(second) FROM (
  SELECT first, second FROM (
    SELECT event_id, stream_offset, ('0x' || substr(digest, 1, 15))::BIGINT AS first,
      ('0x' || substr(digest, 16, 15))::BIGINT AS second
    FROM (SELECT event_id, stream_offset, md5({_LAKE_ROW}) AS digest FROM events WHERE hash(event_id) % ? = ?)
  )
  QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY stream_offset) = 1
)
"""  # noqa: S608 -- constants of ours
