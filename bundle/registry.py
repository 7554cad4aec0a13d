"""Which models there are and which one answers: the tables `models` and `model_activations` in Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from reco.errors.v1 import error_reason_pb2

from runtime.errors import NotFoundError, StateError
from runtime.postgres import Pool, postgres_errors

PUBLISHED, ACTIVE, HELD = "published", "active", "held"
ROLL_BACK = "roll back"  # the reason of an activation that undid one
HISTORY_COUNT_MAX = 1_000  # activations that a roll back looks at: years of daily ones
LOCK_NUMBER = 7_261_001  # advisory lock: two activations never run side by side

_COLUMNS = """version, state, create_time, activate_time, metrics, item_count, event_count, size_bytes,
  has_ranker, note"""


@dataclass(frozen=True)
class ModelRow:
    """One model as the registry knows it."""

    version: str
    state: str
    create_time: datetime
    activate_time: datetime | None
    metrics: Mapping[str, float]
    item_count: int
    event_count: int
    size_bytes: int
    has_ranker: bool
    note: str


async def list_models(pool: Pool, count: int, before_version: str = "") -> list[ModelRow]:
    """At most `count` models, newest first, older than `before_version` if it is given. Versions sort by time."""
    query = f"select {_COLUMNS} from models where %s = '' or version < %s order by version desc limit %s"  # noqa: S608 - a constant
    async with _connected(pool) as connection, connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        await cursor.execute(query, (before_version, before_version, count))
        return await cursor.fetchall()


async def get_model(pool: Pool, version: str) -> ModelRow:
    """One model; NotFoundError MODEL_UNKNOWN if there is none of that version."""
    async with _connected(pool) as connection:
        return await _get(connection, version)


async def active_version(pool: Pool) -> str | None:
    """The version that answers; None before the first activation."""
    async with _connected(pool) as connection:
        return await _active_version(connection)


async def active_model(pool: Pool) -> ModelRow | None:
    """The model that answers; None before the first activation."""
    version = await active_version(pool)
    return await get_model(pool, version) if version else None


async def register(pool: Pool, model: ModelRow, activation_reason: str | None) -> None:
    """Adds a published or held model, and activates it in the same transaction if a reason is given."""
    query = """insert into models (version, state, create_time, metrics, item_count, event_count, size_bytes,
      has_ranker, note) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
    counts = (model.item_count, model.event_count, model.size_bytes)
    row = (model.version, model.state, model.create_time, Jsonb(dict(model.metrics)), *counts)
    async with _connected(pool) as connection, connection.transaction():
        await _lock(connection)
        await connection.execute(query, (*row, model.has_ranker, model.note))
        if activation_reason is not None:
            await _switch(connection, model.version, activation_reason)


async def activate(pool: Pool, version: str, reason: str) -> ModelRow:
    """Makes `version` the active model and returns it; nothing happens if it is already. MODEL_UNKNOWN if there is none."""
    async with _connected(pool) as connection, connection.transaction():
        await _lock(connection)
        model = await _get(connection, version)
        if model.state != ACTIVE:
            await _switch(connection, version, reason)
        return await _get(connection, version)


async def roll_back(pool: Pool) -> ModelRow:
    """Goes back to the model before the active one; StateError NO_EARLIER_MODEL if there is none."""
    async with _connected(pool) as connection, connection.transaction():
        await _lock(connection)
        version = previous_version(await _history(connection))
        if version is None:
            raise _no_earlier_model(await _active_version(connection) or "")
        await _switch(connection, version, ROLL_BACK)
        return await _get(connection, version)


async def earlier_version(pool: Pool) -> str | None:
    """The version that a roll back would activate."""
    async with _connected(pool) as connection:
        return previous_version(await _history(connection))


async def known_and_kept(pool: Pool, count: int) -> tuple[list[str], set[str]]:
    """All versions, newest first, and those whose bundles stay: the newest `count`, the active one, and `count` that going back reaches."""
    async with _connected(pool) as connection:
        rows = await (
            await connection.execute("select version from models order by create_time desc, version desc")
        ).fetchall()
        history = await _history(connection)
        active = await _active_version(connection)
    known = [row[0] for row in rows]
    return known, {*known[:count], *stack_of(history)[-count:], *([active] if active else [])}


def previous_version(history: list[tuple[str, str]]) -> str | None:
    """What a roll back goes to, from (version, reason) of all activations, oldest first; None if there is nothing.

    An activation stacks on the ones before it and a roll back takes the top one away: going back twice reaches two
    models back, rather than swinging between the same two.
    """
    stack = stack_of(history)
    return stack[-2] if len(stack) > 1 else None


def stack_of(history: list[tuple[str, str]]) -> list[str]:
    """The models that going back reaches one after the other, the active one last."""
    stack: list[str] = []
    for version, reason in history:
        if reason == ROLL_BACK and len(stack) > 1:
            stack.pop()
        else:
            stack.append(version)
    return stack


@asynccontextmanager
async def _connected(pool: Pool) -> AsyncIterator[AsyncConnection[Any]]:
    with postgres_errors():
        async with pool.connection() as connection:
            yield connection


async def _lock(connection: AsyncConnection[Any]) -> None:
    # A row lock would not do: the first activation has no active row to lock yet.
    await connection.execute("select pg_advisory_xact_lock(%s)", (LOCK_NUMBER,))


async def _get(connection: AsyncConnection[Any], version: str) -> ModelRow:
    query = f"select {_COLUMNS} from models where version = %s"  # noqa: S608 - a constant
    async with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        await cursor.execute(query, (version,))
        model = await cursor.fetchone()
    if model is None:
        message = f"there is no model {version!r}; list the models and choose one"
        raise NotFoundError(error_reason_pb2.ERROR_REASON_MODEL_UNKNOWN, message, {"version": version})
    return model


async def _active_version(connection: AsyncConnection[Any]) -> str | None:
    row = await (
        await connection.execute("select version from models where state = %s", (ACTIVE,))
    ).fetchone()
    return row[0] if row else None


async def _switch(connection: AsyncConnection[Any], version: str, reason: str) -> None:
    await connection.execute("update models set state = %s where state = %s", (PUBLISHED, ACTIVE))
    query = "update models set state = %s, activate_time = now() where version = %s"
    await connection.execute(query, (ACTIVE, version))
    query = "insert into model_activations (version, activate_time, reason) values (%s, now(), %s)"
    await connection.execute(query, (version, reason))


async def _history(connection: AsyncConnection[Any]) -> list[tuple[str, str]]:
    query = "select version, reason from model_activations order by id desc limit %s"
    rows = await (await connection.execute(query, (HISTORY_COUNT_MAX,))).fetchall()
    return [(row[0], row[1]) for row in reversed(rows)]


def _no_earlier_model(version: str) -> StateError:
    message = "there is no earlier model to go back to; activate one by its version"
    return StateError(error_reason_pb2.ERROR_REASON_NO_EARLIER_MODEL, message, {"active_version": version})
