"""Redis or Valkey: one way to connect, with bounds, and its errors told as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from reco.errors.v1 import error_reason_pb2
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.errors import OverloadError, RecoError, StateError, store_unavailable
from runtime.redis_cluster import cluster_client
from runtime.redis_sentinel import sentinel_client
from runtime.redis_url import parse

CONNECT_WAIT_S_MAX = 1.0  # the same data centre, or the same machine
ANSWER_WAIT_S_MAX = (
    5.0  # an fsync on a busy disk can take a second; a blocking read must ask for less than this
)
BLOCK_WAIT_S_MAX = 1.0  # how long a reader waits for entries before it looks whether to stop
CONNECTIONS_MAX = 64  # of one process
RETRIES_MAX = 2  # what is sent twice is harmless: writes are idempotent by event id or by compare-and-set
RETRY_WAIT_S_MAX = 0.1
OVERLOAD_RETRY_DELAY_MS = 1000

# Answers of a store that is about to be something else: it starts, or another is the primary now. redis-py takes the first
# word off those that it has a class for; the first error of a pipeline begins with other words altogether.
_AWAY = (ReadOnlyError, MasterDownError, ClusterDownError, MovedError, AskError, TryAgainError)
_AWAY_WORDS = ("LOADING", "NOGROUP", "NOREPLICAS", "UNBLOCKED", "MASTERDOWN")

assert BLOCK_WAIT_S_MAX < ANSWER_WAIT_S_MAX


def connect(url: str, retries_max: int = RETRIES_MAX, connections_max: int = CONNECTIONS_MAX) -> Redis:
    """A client of `url` (runtime/redis_url.py); it connects at the first command. Answers are bytes.

    Raises StateError for an empty URL, ValueError for a wrong one. A cluster's client has what we call of Redis, too.
    """
    if not url:
        message = "RECO_REDIS_URL is not set: set it, or start everything with `reco up`"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "redis"})
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_WAIT_S_MAX, "socket_timeout": ANSWER_WAIT_S_MAX,
        "max_connections": connections_max,
        "retry": Retry(ExponentialBackoff(cap=RETRY_WAIT_S_MAX, base=0.01), retries_max),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }  # fmt: skip
    where = parse(url)
    if where.kind == "sentinel":
        return sentinel_client(where, **options)
    if where.kind == "cluster":
        return cast(Redis, cast(object, cluster_client(where, **options)))
    return Redis.from_url(url, **options)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Around commands: what goes wrong with the store leaves as a RecoError."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise told(error) from error


def told(error: BaseException) -> RecoError:
    """The error of a command as a RecoError: out of reach, out of memory, or out of disk."""
    words = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM " in words:
        return _full(
            "Redis is at its memory limit (maxmemory); raise it or let the sinks catch up, then retry"
        )
    if "MISCONF" in words or "No space left" in words:
        return _full("Redis can't write to its disk; free space, then retry")
    if (
        isinstance(error, ResponseError)
        and not isinstance(error, _AWAY)
        and not words.startswith(_AWAY_WORDS)
    ):
        return RecoError(
            error_reason_pb2.ERROR_REASON_INTERNAL, f"our fault: Redis refused a command: {words}"
        )
    return store_unavailable("redis", error)


def _full(message: str) -> OverloadError:
    metadata = {"store": "redis", "retry_delay_ms": str(OVERLOAD_RETRY_DELAY_MS)}
    return OverloadError(error_reason_pb2.ERROR_REASON_STORAGE_FULL, message, metadata)
