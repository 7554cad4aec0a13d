"""The reader of the hot path where the store is a primary under sentinels, or a cluster: `make_reader` chooses by the URL."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from runtime.redis_client import CONNECT_WAIT_S_MAX
from runtime.redis_cluster import cluster_client
from runtime.redis_connection import Address, Subscription, address_at
from runtime.redis_reader import Reader, RedisReader, always
from runtime.redis_sentinel import sentinel_of
from runtime.redis_url import RedisUrl, parse

REDIRECTS_MAX = 2  # of one read; each learns the slots anew
LEARN_PAUSE_S = 0.1  # between two looks at the slots: there are thousands of reads a second


def make_reader(url: str, subscription: Subscription | None = None) -> Reader:
    """A reader of `url` (runtime/redis_url.py), which tells `subscription` what is published. Raises ValueError."""
    where = parse(url)
    if where.kind == "sentinel":
        return SentinelReader(where, subscription)
    if where.kind == "cluster":
        return ClusterReader(where, subscription)
    return RedisReader(url, subscription)


class SentinelReader(RedisReader):
    """Asks the sentinels for the primary whenever it connects: they cut who is connected to one that was demoted."""

    def __init__(self, where: RedisUrl, subscription: Subscription | None = None) -> None:
        self._where = where
        self._sentinels = sentinel_of(where)
        super().__init__(self._primary, subscription)

    async def _primary(self) -> Address:
        host, port = await self._sentinels.discover_master(self._where.primary)
        return address_at(self._where, host, int(port))

    async def aclose(self) -> None:
        await super().aclose()
        await self._sentinels.aclose()


class ClusterReader:
    """One connection for each node that is read from, and one more that listens: what is published reaches every node.

    So, other than with one server, what is published may come after the answer to a read that was sent later.
    """

    def __init__(self, where: RedisUrl, subscription: Subscription | None = None) -> None:
        self._where = where
        wait_s = CONNECT_WAIT_S_MAX
        self._cluster = cluster_client(where, socket_connect_timeout=wait_s, socket_timeout=wait_s)
        self._slots = self._cluster.nodes_manager
        self._readers: dict[str, RedisReader] = {}  # by node
        self._listener = RedisReader(self._next_node, subscription) if subscription else None
        self._turn = itertools.count()
        self._learning: asyncio.Task[None] | None = None
        self._learnt_s = float("-inf")  # when the last look at the slots ended, in the loop's clock

    async def get(self, key: str, until_s: float) -> bytes | None:
        """As RedisReader.get."""
        return (await self.get_all([key], until_s))[0]

    async def get_all(self, keys: Sequence[str], until_s: float) -> list[bytes | None]:
        """As RedisReader.get_all, in a round trip to each node that has some of them."""
        for _ in range(REDIRECTS_MAX):
            try:
                return await self._once(keys, until_s)
            except ResponseError as error:
                if not str(error).startswith("MOVED"):
                    raise
            await self._learn(until_s)
        return await self._once(keys, until_s)

    async def keep_connected(self) -> None:
        """For ever; keeps the connection that listens."""
        if self._listener:
            await self._listener.keep_connected()
        await asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        """Cuts the connections; reads that wait fail."""
        if self._learning:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        for reader in [*self._readers.values(), *([self._listener] if self._listener else [])]:
            await reader.aclose()
        await self._slots.aclose()
        await self._slots.aclose("startup_nodes")

    async def _once(self, keys: Sequence[str], until_s: float) -> list[bytes | None]:
        if not self._slots.slots_cache:
            await self._learn(until_s)
        groups: dict[RedisReader, list[int]] = {}
        for n, key in enumerate(keys):
            groups.setdefault(self._reader_of(key), []).append(n)
        asked = [reader.get_all([keys[n] for n in numbers], until_s) for reader, numbers in groups.items()]
        try:
            answers = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        except RedisError as error:
            if not isinstance(error, ResponseError):
                self._begin_learning()  # another may have its slots now
            raise
        values: list[bytes | None] = [None] * len(keys)
        for numbers, found in zip(groups.values(), answers, strict=True):
            for n, value in zip(numbers, found, strict=True):
                values[n] = value
        return values

    def _reader_of(self, key: str) -> RedisReader:
        try:
            node = self._cluster.get_node_from_key(key)
        except RedisClusterException:
            node = None
        if node is None:
            self._begin_learning()
            raise RedisConnectionError(f"no node of the cluster has the slot of {key}")
        if node.name not in self._readers:
            self._readers[node.name] = RedisReader(always(self._address(node)))
        return self._readers[node.name]

    def _address(self, node: ClusterNode) -> Address:
        return address_at(self._where, str(node.host), int(node.port))

    async def _next_node(self) -> Address:
        """Each time another one: the one before may be dead."""
        if not self._slots.nodes_cache:
            await asyncio.shield(self._begin_learning())
        nodes = list(self._slots.nodes_cache.values())
        return self._address(nodes[next(self._turn) % len(nodes)])

    async def _learn(self, until_s: float) -> None:
        """Returns when the slots are known anew. Raises RedisError, TimeoutError."""
        async with asyncio.timeout_at(until_s):
            await asyncio.shield(self._begin_learning())

    def _begin_learning(self) -> asyncio.Task[None]:
        """One task for all who want to know."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._look())
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._learning

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._learnt_s + LEARN_PAUSE_S - loop.time())
        try:
            await self._slots.initialize()
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        finally:
            self._learnt_s = loop.time()
        for name in self._readers.keys() - self._slots.nodes_cache.keys():
            await self._readers.pop(name).aclose()
