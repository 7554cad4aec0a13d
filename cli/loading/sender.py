"""Sends batches to ingest: waits while it is away or full, and parts what it refuses from what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import psycopg
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from reco.ingest.v1 import ingest_service_pb2 as pb
from reco.ingest.v1.event_pb2 import Event
from reco.ingest.v1.item_pb2 import Item

from cli.loading.items import UnknownItems
from runtime.errors import CallerError, reason_name
from runtime.rpc import validate

CALL_S_MAX = 60.0  # of a batch; a thousand events take some 50 ms
# With no batch acknowledged for so long, the load ends: a restart or a failover takes a minute at most, and what takes
# longer (a sink that is down, a full disk) is somebody's task. The checkpoint stays.
WAIT_S_MAX = 900.0
RETRY_DELAY_S = 1.0  # where the server names none: nobody listens
RETRY_DELAY_S_MIN = 0.05
RETRY_DELAY_S_MAX = 30.0  # a server that names more is asked sooner, so that its return is seen
RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

T = TypeVar("T")
Message = TypeVar("Message", Event, Item)


@dataclass
class Sent:
    """What became of a batch; `refused` has reason and message by position."""

    created: int = 0
    updated: int = 0
    accepted: int = 0
    duplicate: int = 0
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)


class Sender:
    """One call at a time, so that the events of a user keep the order of the file."""

    def __init__(
        self,
        stub: Any,
        unknown: UnknownItems,
        wait_s_max: float = WAIT_S_MAX,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = stub
        self._unknown = unknown
        self._wait_s_max = wait_s_max
        self._sleep = sleep
        self._clock = clock

    def send_items(self, items: Sequence[Item]) -> Sent:
        """Creates or replaces items. Raises grpc.RpcError after WAIT_S_MAX, or when it is our fault."""
        sent = Sent()
        self._send(items, sent, self._upsert)
        return sent

    def send_events(self, events: Sequence[Event]) -> Sent:
        """Writes events, and first, bare, the items that nobody has described. Raises as `send_items`."""
        sent = Sent()
        self._send(events, sent, self._write)
        return sent

    def _send(
        self, messages: Sequence[Message], sent: Sent, call: Callable[[dict[int, Message], Sent], None]
    ) -> None:
        numbered = dict(enumerate(messages))
        try:
            if numbered:
                self._patiently(lambda: call(numbered, sent))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            sent.refused = _breaches(numbered)
            if not sent.refused:
                raise
            good = {number: each for number, each in numbered.items() if number not in sent.refused}
            if good:
                self._patiently(lambda: call(good, sent))

    def _upsert(self, items: dict[int, Item], sent: Sent) -> None:
        answer = self._stub.UpsertItems(pb.UpsertItemsRequest(items=items.values()), timeout=CALL_S_MAX)
        sent.created += answer.created_count
        sent.updated += answer.updated_count

    def _write(self, events: dict[int, Event], sent: Sent) -> None:
        named = {event.item_id for event in events.values()}
        bare = self._unknown.among(event.item_id for event in events.values())
        if bare:
            self._upsert(dict(enumerate(bare)), sent)
        self._unknown.remember(named)
        answer = self._stub.WriteEvents(pb.WriteEventsRequest(events=events.values()), timeout=CALL_S_MAX)
        sent.accepted += answer.accepted_count
        sent.duplicate += answer.duplicate_count
        for number, outcome in zip(events, answer.outcomes, strict=True):
            if outcome.status == pb.EventOutcome.STATUS_REJECTED:
                sent.refused[number] = (reason_name(outcome.reason), outcome.message)

    def _patiently(self, call: Callable[[], T]) -> T:
        """The call's answer, tried again while the system is away or full, for WAIT_S_MAX altogether."""
        until_s = self._clock() + self._wait_s_max
        while True:
            try:
                return call()
            except (grpc.RpcError, psycopg.OperationalError) as error:
                delay_s = _delay_s(error)
                if delay_s is None or self._clock() + delay_s > until_s:
                    raise
                self._sleep(delay_s)


def _breaches(messages: dict[int, Message]) -> dict[int, tuple[str, str]]:
    """Those that break a rule of the contract: a batch with one of them is refused whole."""
    found = {}
    for number, message in messages.items():
        try:
            validate(message)
        except CallerError as error:
            found[number] = (reason_name(error.reason), error.message)
    return found


def _delay_s(error: grpc.RpcError | psycopg.OperationalError) -> float | None:
    """After how long the same call is worth another try; None: it is not."""
    if isinstance(error, psycopg.OperationalError):
        return RETRY_DELAY_S
    if error.code() not in RETRIED:
        return None
    status = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(retry):
            asked_s = float(retry.retry_delay.ToMilliseconds()) / 1e3
            return min(max(asked_s, RETRY_DELAY_S_MIN), RETRY_DELAY_S_MAX)
    return RETRY_DELAY_S
