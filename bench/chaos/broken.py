"""`python -m bench.chaos.broken HOW MODULE`: a build that is wrong on purpose, to see that a run finds it."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.chaos import skewed
from ingest import consumer, stream
from profiles.offsets import pack_offset


@dataclass(frozen=True)
class Build:
    """What is wrong, and with whom."""

    units: tuple[str, ...]
    bend: Callable[[], None]


def acknowledge_before_write() -> None:
    """Consumers tell the stream that they have what they have only read."""
    carry: Any = consumer.carry

    async def wrong(reader: Any, sink: Any, *more: Any) -> Any:
        return await carry(_Hasty(reader), sink, *more)

    setattr(consumer, "carry", wrong)  # noqa: B010 -- as above all, nobody else may


class _Hasty:
    """A reader that acknowledges what it reads."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, *arguments: Any) -> Any:
        batch = await self._reader.read(*arguments)
        await self._reader.acknowledge(batch)
        return batch


def answer_before_append() -> None:
    """Ingest tells its callers that the stream has what is only on its way there."""
    append = stream.StreamWriter.append
    numbers = itertools.count()
    running: set[asyncio.Task[Any]] = set()

    def forget(done: asyncio.Task[Any]) -> None:
        running.discard(done)
        if not done.cancelled():
            done.exception()  # nobody hears of it: that is what is wrong

    async def wrong(writer: Any, partition: int, events: Any, *more: Any) -> Any:
        task = asyncio.create_task(append(writer, partition, events, *more))
        running.add(task)
        task.add_done_callback(forget)
        ms = int(time.time() * 1000)
        return [stream.Place(pack_offset(f"{ms}-{next(numbers) % 1000}"), True) for _ in events]

    setattr(stream.StreamWriter, "append", wrong)  # noqa: B010


HOW = {
    "acknowledge-before-write": Build(("consumer-1", "consumer-2"), acknowledge_before_write),
    "answer-before-append": Build(("ingest",), answer_before_append),
}


def main(arguments: Sequence[str]) -> None:
    HOW[arguments[0]].bend()
    sys.argv = ["skewed", *arguments[1:]]
    skewed.main()


if __name__ == "__main__":
    main(sys.argv[1:])
