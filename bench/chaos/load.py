"""The load: batches by the clock, each sent again until the service has acknowledged it, over gRPC and REST."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from typing import Any, Final

import grpc
import httpx
from google.protobuf import json_format
from reco.ingest.v1.event_pb2 import Event
from reco.ingest.v1.ingest_service_pb2 import EventOutcome, WriteEventsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub

from bench.chaos import sent

BATCH_EVENTS: Final = 25
CALL_WAIT_S_MAX: Final = 5.0
CALLERS_MAX: Final = (
    48  # batches on their way at once; while nothing is acknowledged, the others wait for their turn
)
REST_EVERY: Final = 12  # one batch in so many goes over REST
BACKOFF_S: Final = (0.02, 1.0)
CHANNELS: Final = 4
# A caller must come back soon after an outage; gRPC's own pause between two tries to connect grows to minutes.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500), ("grpc.use_local_subchannel_pool", 1),
)  # fmt: skip

Outcomes = list[tuple[str, int]]  # event id, status


class Load:
    """Open loop: batch k is due at k * BATCH_EVENTS / rate, whatever became of those before it."""

    def __init__(self, grpc_target: str, rest_url: str, rate: float, begin_s: int, seed: int) -> None:
        self._grpc_target, self._rest_url = grpc_target, rest_url
        self._pause_s = BATCH_EVENTS / rate
        self._begin_s = begin_s
        self._chance = random.Random(seed)  # noqa: S311 -- of back-offs
        self._numbers = itertools.count()
        self._stop = asyncio.Event()
        self._slots = asyncio.Semaphore(CALLERS_MAX)
        self.acknowledged: set[int] = set()
        self.sent_count = 0  # events, each once
        self.retry_count = 0  # events that were sent again
        self.duplicate_count = 0  # of them, those that had been taken the first time
        self.refusals: Counter[str] = Counter()  # calls, by how they failed
        self.rejected: Counter[str] = Counter()  # events, by the reason: none is expected
        self.late_s_max = 0.0  # how long a batch waited until it was acknowledged, from when it was due

    async def run(self) -> None:
        """Until `stop`; then until everything that was sent is acknowledged."""
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                grpc.aio.insecure_channel(self._grpc_target, options=(*CHANNEL_OPTIONS, ("reco.channel", i)))
                for i in range(CHANNELS)
            ]
            for channel in channels:
                stack.push_async_callback(channel.close)
            self._stubs = [IngestServiceStub(channel) for channel in channels]
            self._rest = await stack.enter_async_context(
                httpx.AsyncClient(base_url=self._rest_url, timeout=CALL_WAIT_S_MAX)
            )
            async with asyncio.TaskGroup() as tasks:
                await self._dispatch(tasks)

    def stop(self) -> None:
        """Sends nothing new."""
        self._stop.set()

    def begin_anew(self) -> None:
        """Makes another `run` possible after the one that has ended; numbers go on."""
        self._stop, self._slots = asyncio.Event(), asyncio.Semaphore(CALLERS_MAX)

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        start_s = time.monotonic()
        for number in itertools.count():
            due_s = start_s + number * self._pause_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due_s - time.monotonic())):
                    await self._stop.wait()
            if self._stop.is_set():
                return
            await self._slots.acquire()
            tasks.create_task(self._deliver(number, due_s))

    async def _deliver(self, batch: int, due_s: float) -> None:
        try:
            numbers = [next(self._numbers) for _ in range(BATCH_EVENTS)]
            self.sent_count += len(numbers)
            waiting = {event.id: event for event in (sent.event(n, self._begin_s) for n in numbers)}
            backoff_s = BACKOFF_S[0]
            while waiting:
                if not await self._try(batch, waiting):
                    self.retry_count += len(waiting)
                    await asyncio.sleep(backoff_s * self._chance.uniform(0.5, 1.5))
                    backoff_s = min(2 * backoff_s, BACKOFF_S[1])
            self.late_s_max = max(self.late_s_max, time.monotonic() - due_s)
        finally:
            self._slots.release()

    async def _try(self, batch: int, waiting: dict[str, Event]) -> bool:
        """Sends what is not acknowledged; whether the service has answered."""
        try:
            send = self._over_rest if batch % REST_EVERY == 0 else self._over_grpc
            outcomes = await send(batch, list(waiting.values()))
        except grpc.aio.AioRpcError as error:
            self.refusals[f"grpc {error.code().name}"] += 1
            return False
        except httpx.HTTPError as error:
            self.refusals[f"rest {type(error).__name__}"] += 1
            return False
        except _RefusedError as error:
            self.refusals[f"rest {error}"] += 1
            return False
        self._take(outcomes, waiting)
        return True

    def _take(self, outcomes: Outcomes, waiting: dict[str, Event]) -> None:
        for event_id, status in outcomes:
            if status == EventOutcome.STATUS_REJECTED:
                self.rejected[event_id] += 1
            else:
                self.acknowledged.add(sent.number_of(event_id))
                self.duplicate_count += status == EventOutcome.STATUS_DUPLICATE
            waiting.pop(event_id, None)

    async def _over_grpc(self, batch: int, events: list[Event]) -> Outcomes:
        stub = self._stubs[batch % CHANNELS]
        answer: Any = await stub.WriteEvents(WriteEventsRequest(events=events), timeout=CALL_WAIT_S_MAX)
        return [(outcome.event_id, outcome.status) for outcome in answer.outcomes]

    async def _over_rest(self, _batch: int, events: list[Event]) -> Outcomes:
        body = {"events": [json_format.MessageToDict(event) for event in events]}
        answer = await self._rest.post("/v1/events:write", json=body)
        if answer.status_code != 200:
            raise _RefusedError(str(answer.status_code))
        statuses = EventOutcome.Status
        return [
            (outcome["eventId"], statuses.Value(outcome["status"])) for outcome in answer.json()["outcomes"]
        ]


class _RefusedError(Exception):
    """An answer that is none."""
