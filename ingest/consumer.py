"""The loop that carries a partition of the stream into a sink."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from ingest import limits
from ingest.events import StreamEvent, decode
from ingest.lease import Lease
from ingest.stream import Entry, Refused, StreamReader
from runtime import metrics
from runtime.errors import RecoError


class Sink(Protocol):
    """Where events go. Writing what is there already changes nothing."""

    @property
    def batch_events_max(self) -> int:
        """How many events one write takes."""
        ...

    @property
    def fill_s(self) -> float:
        """How long to wait for a batch to fill, once it has begun."""
        ...

    def restart(self) -> None:
        """Called before entries are read again, after a failure or while another process had the partition."""
        ...

    async def write(self, events: Sequence[StreamEvent]) -> None:
        """Writes events of one partition, in order, for good.

        Raises RecoError when the store fails (the batch comes again); any other error says that an event is at fault.
        """
        ...


async def run(
    stream: StreamReader,
    sink: Sink,
    lease: Lease,
    stop: asyncio.Event,
    take: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """Carries on until `stop`. What fails is tried again, for ever; the other sinks go on meanwhile.

    Before each batch `take` says whether the lease is this process's to hold (None: it always is), and gives it back if not.
    """
    take = take or lease.hold
    wait_s = limits.RETRY_WAIT_S_MIN
    while not stop.is_set():
        try:
            if await take():
                await carry(stream, sink)
                wait_s = limits.RETRY_WAIT_S_MIN
                continue
            pause_s = limits.LEASE_POLL_S
        except Exception as error:
            _tell(stream, error)
            lease.doubt()
            pause_s, wait_s = wait_s, min(2 * wait_s, limits.RETRY_WAIT_S_MAX)
        stream.rewind()
        sink.restart()
        await _pause(pause_s, stop)
    await lease.release()


async def carry(stream: StreamReader, sink: Sink) -> None:
    """One batch from the stream into the sink. A crash anywhere in it redelivers the batch, and loses nothing."""
    batch = await stream.read(sink.batch_events_max, sink.fill_s)
    events, poison = await _decode(batch, stream.sink)
    await _write(events, sink, stream)
    await _set_aside(poison, stream)
    await stream.acknowledge(batch)


async def _decode(batch: list[Entry], sink: str) -> tuple[list[StreamEvent], list[Refused]]:
    if len(batch) < limits.THREAD_EVENTS_MIN:
        return decode(batch, sink)
    return await asyncio.to_thread(decode, batch, sink)


async def _write(events: Sequence[StreamEvent], sink: Sink, stream: StreamReader) -> None:
    """Writes a batch and says how large it was and how long it took."""
    if not events:
        return
    start_s = time.perf_counter()
    await _write_or_refuse(events, sink, stream)
    metrics.SINK_WRITE_SECONDS.labels(stream.sink).observe(time.perf_counter() - start_s)
    metrics.SINK_BATCH_EVENTS.labels(stream.sink).observe(len(events))


async def _write_or_refuse(events: Sequence[StreamEvent], sink: Sink, stream: StreamReader) -> None:
    """Halves a batch that the sink chokes on until the events at fault stand alone: one can't block its partition.

    An event at fault is set aside before anything after it is written: sinks skip what lies before the newest that they
    have, so that, delivered again, it would pass for written.
    """
    try:
        await sink.write(events)
    except RecoError:
        raise
    except Exception as error:
        if len(events) == 1:
            reason = f"{type(error).__name__}: {error}"[: limits.DEAD_LETTER_REASON_CHARS_MAX]
            await _set_aside([Refused(events[0].entry, reason)], stream)
            return
        middle = len(events) // 2
        await _write_or_refuse(events[:middle], sink, stream)
        await _write_or_refuse(events[middle:], sink, stream)


async def _set_aside(refused: list[Refused], stream: StreamReader) -> None:
    await stream.dead_letter(refused)
    metrics.DEAD_LETTERS_TOTAL.labels(stream.sink).inc(len(refused))


def _tell(stream: StreamReader, error: Exception) -> None:
    if not isinstance(error, RecoError):
        structlog.get_logger().exception("unexpected error", sink=stream.sink, partition=stream.partition)
    metrics.SINK_RETRIES_TOTAL.labels(stream.sink).inc()
    structlog.get_logger().warning(
        "a batch is tried again", sink=stream.sink, partition=stream.partition, error=str(error)
    )


async def _pause(wait_s: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), wait_s)
