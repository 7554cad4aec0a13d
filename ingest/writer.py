"""Events at the door: checked against the state, keyed, appended; an outcome for each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reco.errors.v1 import error_reason_pb2
from reco.errors.v1.error_reason_pb2 import ErrorReason
from reco.ingest.v1.event_pb2 import AcceptedEvent, Event
from reco.ingest.v1.ingest_service_pb2 import EventOutcome

from ingest import limits
from ingest.keys import ItemKeys
from ingest.stream import Place, StreamWriter
from ingest.texts import has_nul
from profiles.offsets import make_token
from profiles.subjects import partition_of, subject_of
from runtime import metrics
from runtime.clock import Clock

ACCEPTED = EventOutcome.STATUS_ACCEPTED
DUPLICATE = EventOutcome.STATUS_DUPLICATE
REJECTED = EventOutcome.STATUS_REJECTED
NANOS_MAX = 999_999_999


@dataclass
class Written:
    """What became of a batch: an outcome for each event, in order, and where each partition ends (packed offsets)."""

    outcomes: list[EventOutcome]
    ends: dict[int, int] = field(default_factory=dict)

    def count(self, status: EventOutcome.Status.ValueType) -> int:
        """How many events have this outcome."""
        return sum(outcome.status == status for outcome in self.outcomes)


class EventWriter:
    """Writes events that hold to the rules of the contract."""

    def __init__(self, stream: StreamWriter, keys: ItemKeys, partition_count: int, clock: Clock) -> None:
        self._stream = stream
        self._keys = keys
        self._partition_count = partition_count
        self._clock = clock

    async def write(self, events: Sequence[Event], numbers: Sequence[int] | None = None) -> Written:
        """Accepts, or says why not. Everything accepted is in the stream. `numbers` is what messages call the events.

        Raises OverloadError and DependencyError: then some events may be in the stream; sent again they are duplicates.
        """
        keys = await self._keys.find(event.item_id for event in events)
        numbered = zip(numbers or range(len(events)), events, strict=True)
        outcomes = [self._check(event, keys, number) for number, event in numbered]
        written = Written(outcomes)
        batches = self._by_partition(events, outcomes)
        places = await asyncio.gather(
            *(self._append(partition, batch, keys) for partition, batch in batches.items())
        )
        for (partition, batch), found in zip(batches.items(), places, strict=True):
            _fill(written, partition, batch, found)
        _fill_repeated(events, outcomes)
        _count(written)
        return written

    def _check(self, event: Event, keys: dict[str, int], number: int) -> EventOutcome:
        """REJECTED with a reason, or an outcome without a status yet."""
        outcome = EventOutcome(event_id=event.id)
        if has_nul(event):
            _reject(
                outcome, error_reason_pb2.ERROR_REASON_FIELD_INVALID, f"events[{number}]: a text holds a NUL"
            )
        elif event.item_id not in keys:
            message = (
                f"events[{number}].item_id: no item {event.item_id!r}; upsert it, then send the event again"
            )
            _reject(outcome, error_reason_pb2.ERROR_REASON_ITEM_UNKNOWN, message)
        elif event.event_time.nanos < 0 or event.event_time.nanos > NANOS_MAX:
            message = f"events[{number}].event_time.nanos: 0 to {NANOS_MAX}"
            _reject(outcome, error_reason_pb2.ERROR_REASON_FIELD_INVALID, message)
        elif event.event_time.seconds > self._clock.time_s() + limits.SKEW_S_MAX:
            message = f"events[{number}].event_time: more than {limits.SKEW_S_MAX} s ahead of our clock; is it in seconds?"
            _reject(outcome, error_reason_pb2.ERROR_REASON_EVENT_TIME_IN_FUTURE, message)
        return outcome

    def _by_partition(
        self, events: Sequence[Event], outcomes: Sequence[EventOutcome]
    ) -> dict[int, list[tuple[Event, EventOutcome]]]:
        """What is not rejected, in order, the first of each id."""
        batches: dict[int, list[tuple[Event, EventOutcome]]] = {}
        ids: set[str] = set()
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome.status != REJECTED and event.id not in ids:
                ids.add(event.id)
                subject = subject_of(event.user_id, event.session_id)
                batches.setdefault(partition_of(subject, self._partition_count), []).append((event, outcome))
        return batches

    async def _append(
        self, partition: int, batch: Sequence[tuple[Event, EventOutcome]], keys: dict[str, int]
    ) -> list[Place]:
        accept_micros = int(self._clock.time_s() * 1e6)
        entries = [(event.id, _payload(event, keys[event.item_id], accept_micros)) for event, _ in batch]
        return await self._stream.append(partition, entries)


def _payload(event: Event, item_key: int, accept_micros: int) -> bytes:
    accepted = AcceptedEvent(event=event, item_key=item_key)
    accepted.accept_time.FromMicroseconds(accept_micros)
    if not event.HasField("event_time"):
        accepted.event.event_time.FromMicroseconds(accept_micros)
    return accepted.SerializeToString()


def _fill(
    written: Written, partition: int, batch: Sequence[tuple[Event, EventOutcome]], places: Sequence[Place]
) -> None:
    for (_, outcome), place in zip(batch, places, strict=True):
        outcome.status = ACCEPTED if place.is_new else DUPLICATE
        outcome.offset = make_token({partition: place.offset})
        written.ends[partition] = max(written.ends.get(partition, 0), place.offset)


def _fill_repeated(events: Sequence[Event], outcomes: Sequence[EventOutcome]) -> None:
    """The second of an id within a batch is a duplicate of the first."""
    first = {event.id: outcome for event, outcome in _pairs(events, outcomes) if outcome.offset}
    for event, outcome in _pairs(events, outcomes):
        if not outcome.status:
            outcome.status = DUPLICATE
            outcome.offset = first[event.id].offset


def _pairs(events: Sequence[Event], outcomes: Sequence[EventOutcome]) -> Iterator[tuple[Event, EventOutcome]]:
    return zip(events, outcomes, strict=True)


def _reject(outcome: EventOutcome, reason: ErrorReason.ValueType, message: str) -> None:
    outcome.status = REJECTED
    outcome.reason = reason
    outcome.message = message


def _count(written: Written) -> None:
    metrics.INGEST_BATCH_EVENTS.observe(len(written.outcomes))
    for status, name in ((ACCEPTED, "accepted"), (DUPLICATE, "duplicate"), (REJECTED, "rejected")):
        metrics.EVENTS_TOTAL.labels(name).inc(written.count(status))
