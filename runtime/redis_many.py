"""Many commands in one round trip, on one server or over the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import MovedError, NoScriptError

from runtime.redis_cluster import ClusterClient

REDIRECTS_MAX = 3  # a slot that moves more often within one call is told as a store that is away

Command = Sequence[Any]


def cluster_of(redis: Redis) -> ClusterClient | None:
    """The client as a cluster's, if it is one."""
    client = cast(object, redis)
    return client if isinstance(client, ClusterClient) else None


async def get_all(redis: Redis, keys: Sequence[str]) -> list[bytes | None]:
    """The values of `keys`, n > 0, in their order. Raises RedisError."""
    if cluster_of(redis) is None:
        return cast(list[bytes | None], await redis.mget(keys))
    async with redis.pipeline(transaction=False) as pipeline:  # MGET wants all keys in one slot
        for key in keys:
            pipeline.get(key)
        return cast(list[bytes | None], await pipeline.execute())


async def run_scripts(redis: Redis, script: str, calls: Sequence[tuple[Sequence[str], Command]]) -> list[Any]:
    """The answers of a script to (keys, arguments) each, which may run again. A store that forgot the script is told it again.

    Raises RedisError: then some may have run.
    """
    registered = redis.register_script(script)
    answers = await _evalsha(redis, registered.sha, calls)
    if again := [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        await redis.script_load(script)
        for n, answer in zip(
            again, await _evalsha(redis, registered.sha, [calls[n] for n in again]), strict=True
        ):
            answers[n] = answer
    _raise_first(answers)
    return answers


async def _evalsha(redis: Redis, sha: str, calls: Sequence[tuple[Sequence[str], Command]]) -> list[Any]:
    return await _execute(
        redis, [("EVALSHA", sha, len(keys), *keys, *arguments) for keys, arguments in calls]
    )


async def over_one_connection(redis: Redis, key: str, commands: Sequence[Command]) -> list[Any]:
    """The answers to `commands` of the server that has `key`, over one connection and in their order. Raises RedisError.

    Where that turns out to be another server, all of them are sent to it: they may run again.
    """
    cluster = cluster_of(redis)
    if cluster is None:
        answers = await _execute(redis, commands)
    else:
        answers = await _on_node(cluster, key, commands)
    _raise_first(answers)
    return answers


async def _on_node(cluster: ClusterClient, key: str, commands: Sequence[Command]) -> list[Any]:
    for _ in range(REDIRECTS_MAX):
        node = await cluster.node_of(key)
        answers = await _execute(cluster, commands, target_nodes=node)
        if not any(isinstance(answer, MovedError) for answer in answers):
            break
    return answers


async def _execute(redis: Any, commands: Sequence[Command], **where: Any) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command, **where)
        how = {"allow_redirections": False} if where else {}
        return cast(list[Any], await pipeline.execute(raise_on_error=False, **how))


async def primaries_say(redis: Redis, *command: Any) -> list[Any]:
    """The answer of each primary to `command`. Raises RedisError."""
    cluster = cluster_of(redis)
    if cluster is None:
        return [await redis.execute_command(*command)]  # type: ignore[no-untyped-call]  # redis-py's own
    await cluster.initialize()
    return [await cluster.execute_command(*command, target_nodes=node) for node in cluster.get_primaries()]


def _raise_first(answers: Iterable[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
