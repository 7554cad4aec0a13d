"""Cursors that hold their rows in the server, and connections that end under them."""

from __future__ import annotations

import psycopg
import pytest

from runtime.postgres import server_cursor


async def test_a_cursor_whose_connection_ends_is_closed_all_the_same(postgres: str) -> None:
    made = []

    async def read(connection: psycopg.AsyncConnection) -> None:
        async with server_cursor(connection, "numbers") as cursor:
            made.append(cursor)
            await cursor.execute("SELECT * FROM generate_series(1, 1000)")
            await cursor.fetchmany(10)
            with psycopg.connect(postgres, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))

    connection = await psycopg.AsyncConnection.connect(postgres)
    with pytest.raises(psycopg.OperationalError):
        await read(connection)
    assert made[0].closed
    await connection.close()


async def test_a_cursor_is_closed_at_the_end_and_its_connection_goes_on(postgres: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres) as connection:
        async with server_cursor(connection, "numbers") as cursor:
            await cursor.execute("SELECT * FROM generate_series(1, 1000)")
            assert await cursor.fetchmany(2) == [(1,), (2,)]
        assert cursor.closed
        assert await (await connection.execute("SELECT 7")).fetchone() == (7,)
