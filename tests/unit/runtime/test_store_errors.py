"""Whose fault a store's error is."""

from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from reco.errors.v1 import error_reason_pb2
from redis import exceptions

from runtime import postgres, redis_client
from runtime.errors import RecoError, StateError

FULL = error_reason_pb2.ERROR_REASON_STORAGE_FULL
GONE = error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE
OURS = error_reason_pb2.ERROR_REASON_INTERNAL


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.ConnectionError("refused"), GONE), (exceptions.TimeoutError(), GONE), (OSError(), GONE),
        (exceptions.BusyLoadingError("LOADING"), GONE), (exceptions.ResponseError("NOGROUP no such"), GONE),
        (exceptions.OutOfMemoryError("command not allowed"), FULL),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), FULL),
        (exceptions.ResponseError("WRONGTYPE"), OURS),
    ],
)  # fmt: skip
def test_errors_of_redis(error: Exception, reason: int) -> None:
    with pytest.raises(RecoError) as raised, redis_client.redis_errors():
        raise error

    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (psycopg.OperationalError("gone"), GONE), (PoolTimeout(), GONE), (psycopg.errors.AdminShutdown(), GONE),
        (psycopg.errors.DiskFull(), FULL), (psycopg.errors.UndefinedTable(), OURS),
    ],
)  # fmt: skip
def test_errors_of_postgres(error: Exception, reason: int) -> None:
    with pytest.raises(RecoError) as raised, postgres.postgres_errors():
        raise error

    assert raised.value.reason == reason


def test_errors_in_the_data_pass_through_for_who_knows_the_data() -> None:
    with pytest.raises(psycopg.DataError), postgres.postgres_errors():
        raise psycopg.errors.NumericValueOutOfRange


def test_a_url_that_is_not_set_says_what_to_do() -> None:
    with pytest.raises(StateError, match=r"RECO_REDIS_URL is not set.*reco up"):
        redis_client.connect("")
    with pytest.raises(StateError, match=r"RECO_POSTGRES_URL is not set.*reco up"):
        postgres.make_pool("")
