"""Which tables a dump holds, in which order, and as which rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.sql import Composed, Identifier, Literal


@dataclass(frozen=True)
class Table:
    """`order`: columns that give every row its place. `left_out`: columns that mean nothing in another database."""

    name: LiteralString
    order: tuple[LiteralString, ...]
    left_out: frozenset[str] = frozenset()
    by_day: bool = False  # partitioned: a file a day


# Those that others refer to come first.
TABLES = (
    Table("items", ("key",), frozenset({"changed_xid"})),
    Table("users", ("id",)),
    Table("item_changes", ("number",), frozenset({"xid"})),
    Table("user_changes", ("number",), frozenset({"xid"})),
    Table("retired_days", ("day",)),
    Table("events", ("stream_partition", "stream_offset", "event_id"), by_day=True),
    Table("decisions", ("token",), by_day=True),
    Table("models", ("version",)),
    Table("model_activations", ("id",)),
    Table("api_clients", ("id",)),
)
NOT_DUMPED = {
    "schema_migrations": "the other database has its own",
    "catalogue_snapshots": "marks of files beside the serving processes; they are made anew",
    "training_runs": "jobs of the processes that were",
}


def columns_of(connection: psycopg.Connection[Any], table: Table) -> list[str]:
    """The columns of a table that a dump holds, in its order."""
    rows = connection.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table.name,),
    )
    return [name for (name,) in rows if name not in table.left_out]


def days_of(connection: psycopg.Connection[Any], table: Table) -> list[date]:
    """The days of a table's rows, oldest first."""
    query = sql.SQL("SELECT DISTINCT day FROM {} ORDER BY day").format(Identifier(table.name))
    return [day for (day,) in connection.execute(query)]


def rows_query(table: Table, columns: list[str], day: date | None, ends: dict[int, int]) -> Composed:
    """Rows as JSON, one text each. Of events only those up to the packed offset where their partition ends, if it is in `ends`.

    JSON, not JSONB: it keeps every digit, and the sign of a zero.
    """
    wheres = [sql.SQL("day = {}").format(Literal(day))] if day else []
    if table.name == "events":
        wheres += [
            sql.SQL("(stream_partition <> {} OR stream_offset <= {})").format(Literal(p), Literal(end))
            for p, end in ends.items()
        ]
    return sql.SQL("SELECT row_to_json(t)::text FROM (SELECT {} FROM {} {} ORDER BY {}) AS t").format(
        sql.SQL(", ").join(map(Identifier, columns)),
        Identifier(table.name),
        sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(wheres)) if wheres else sql.SQL(""),
        sql.SQL(", ").join(map(Identifier, table.order)),
    )


def insert_query(table: str, columns: list[str]) -> Composed:
    """Inserts rows from such texts, keys included. They come as one text, a line each: an array costs the client a hundred times as much."""
    names = sql.SQL(", ").join(map(Identifier, columns))
    return sql.SQL(
        "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE "
        "SELECT {1} FROM unnest(string_to_array(%s::text, chr(10))) WITH ORDINALITY AS l (line, n), json_populate_record(NULL::{0}, line::json) ORDER BY n"
    ).format(Identifier(table), names)


def sequences(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """How far each identity column of the tables has come: `{"items.key": 7, ...}`; those that gave none are left out."""
    query = """SELECT c.relname || '.' || a.attname, s.last_value FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      JOIN pg_sequences s ON format('%%I.%%I', s.schemaname, s.sequencename)::regclass
        = pg_get_serial_sequence(format('%%I', c.relname), a.attname)::regclass
      WHERE a.attidentity <> '' AND c.relname = ANY(%s) AND s.last_value IS NOT NULL ORDER BY 1"""
    return dict(connection.execute(query, ([table.name for table in TABLES],)).fetchall())
