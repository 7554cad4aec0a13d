"""A cluster: redis-py's client of one, made to behave as its client of a single server does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, ClusterPipeline
from redis.exceptions import ClusterDownError, MovedError, RedisClusterException
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.redis_url import RedisUrl

# What says that nodes or their slots may have changed.
CHANGED = (RedisConnectionError, RedisTimeoutError, ClusterDownError, MovedError)


class ClusterClient(RedisCluster):
    """Connects at the first command; what is wrong with the cluster is a RedisError, as with one server."""

    async def __aenter__(self) -> ClusterClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def initialize(self, *arguments: Any, **named: Any) -> ClusterClient:
        """Learns the slots where that is due. Raises RedisError."""
        try:
            await super().initialize(*arguments, **named)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        return self

    async def aclose(self) -> None:
        """Closes every connection: redis-py's leaves them open while the slots are in doubt."""
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    async def execute_command(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await super().execute_command(*arguments, **named)
        except RedisClusterException as error:  # a slot that nobody has
            self.doubt()
            raise RedisConnectionError(str(error)) from error

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        return _Pipeline(self, transaction)  # type: ignore[abstract]  # redis-py instantiates its own just so

    def doubt(self) -> None:
        """Makes the next command learn the slots anew."""
        self._initialize = True

    async def node_of(self, key: str) -> ClusterNode:
        """Who has `key`, as far as is known. Raises RedisError."""
        await self.initialize()
        try:
            if node := self.get_node_from_key(key):
                return node
        except RedisClusterException:
            pass
        self.doubt()
        raise RedisConnectionError(f"no node of the cluster has the slot of {key}")

    def note(self, answers: Iterable[Any]) -> None:
        """Looks whether one of `answers` says that the slots may have moved."""
        if any(isinstance(answer, CHANGED) for answer in answers):
            self.doubt()


class _Pipeline(ClusterPipeline):
    """redis-py's asks for the slots anew only when it retries; ours do that themselves."""

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        client = self.cluster_client
        assert isinstance(client, ClusterClient)
        try:
            answers = await super().execute(raise_on_error, allow_redirections)
        except CHANGED:
            client.doubt()
            raise
        except RedisClusterException as error:
            client.doubt()
            raise RedisConnectionError(str(error)) from error
        client.note(answers)
        return answers


def cluster_client(where: RedisUrl, **options: Any) -> ClusterClient:
    """A client of the cluster that `where` names; `options` are those of a connection."""
    return ClusterClient(
        startup_nodes=[ClusterNode(*host) for host in where.hosts],
        username=where.username, password=where.password,
        # The slots are learnt anew behind an error, not behind so many MOVED: that would cut the connections of all others.
        reinitialize_steps=0,
        **options,
    )  # fmt: skip
