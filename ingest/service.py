"""The RPC edge of ingest. Requests come in validated (runtime/rpc.py); errors leave as statuses there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from reco.ingest.v1 import ingest_service_pb2 as pb
from reco.ingest.v1 import ingest_service_pb2_grpc as pb_grpc
from reco.ingest.v1.event_pb2 import Event

from ingest import catalogue, limits
from ingest.announcer import Announcer
from ingest.writer import ACCEPTED, DUPLICATE, REJECTED, EventWriter, Written
from profiles.offsets import make_token
from runtime.errors import CallerError
from runtime.postgres import Pool
from runtime.rpc import validate

Context = grpc.aio.ServicerContext[Any, Any]


class IngestService(pb_grpc.IngestServiceServicer):
    """Takes events and the catalogue in."""

    def __init__(self, writer: EventWriter, pool: Pool, announcer: Announcer) -> None:
        self._writer = writer
        self._announcer = announcer
        self._pool = pool

    async def WriteEvents(self, request: pb.WriteEventsRequest, context: Context) -> pb.WriteEventsResponse:  # noqa: N802 -- the contract's name
        written = await self._writer.write(request.events)
        return pb.WriteEventsResponse(
            outcomes=written.outcomes,
            offset=make_token(written.ends),
            accepted_count=written.count(ACCEPTED),
            duplicate_count=written.count(DUPLICATE),
            rejected_count=written.count(REJECTED),
        )

    async def ImportEvents(  # noqa: N802 -- the contract's name
        self, request_iterator: AsyncIterator[pb.ImportEventsRequest], context: Context
    ) -> pb.ImportEventsResponse:
        answer = pb.ImportEventsResponse()
        ends: dict[int, int] = {}
        received = 0
        async for chunk in request_iterator:
            good, bad = _sort_out(chunk, received)
            _add(answer, ends, Written(bad))
            if good:
                _add(answer, ends, await self._writer.write(list(good.values()), list(good)))
            received += len(chunk.events)
        answer.offset = make_token(ends)
        return answer

    async def UpsertItems(self, request: pb.UpsertItemsRequest, context: Context) -> pb.UpsertItemsResponse:  # noqa: N802
        change = await catalogue.upsert_items(self._pool, request.items)
        await self._announcer.tell(change.news)
        return pb.UpsertItemsResponse(created_count=change.count, updated_count=change.rest)

    async def DeleteItems(self, request: pb.DeleteItemsRequest, context: Context) -> pb.DeleteItemsResponse:  # noqa: N802
        change = await catalogue.delete_items(self._pool, request.item_ids)
        await self._announcer.tell(change.news)
        return pb.DeleteItemsResponse(deleted_count=change.count, missing_count=change.rest)

    async def UpsertUsers(self, request: pb.UpsertUsersRequest, context: Context) -> pb.UpsertUsersResponse:  # noqa: N802
        created, updated = await catalogue.upsert_users(self._pool, request.users)
        return pb.UpsertUsersResponse(created_count=created, updated_count=updated)


def _sort_out(chunk: pb.ImportEventsRequest, first: int) -> tuple[dict[int, Event], list[pb.EventOutcome]]:
    """What holds to the contract, by number, and rejections of the rest. One look is enough where all is well."""
    numbered = dict(enumerate(chunk.events, first))
    try:
        validate(chunk)
    except CallerError:
        if not 0 < len(chunk.events) <= limits.CHUNK_EVENTS_MAX:
            raise
    else:
        return numbered, []
    bad = {number: error for number, event in numbered.items() if (error := _violation(event))}
    good = {number: event for number, event in numbered.items() if number not in bad}
    return good, [_rejection(numbered[number], number, error) for number, error in bad.items()]


def _violation(event: Event) -> CallerError | None:
    try:
        validate(event)
    except CallerError as error:
        return error
    return None


def _rejection(event: Event, number: int, error: CallerError) -> pb.EventOutcome:
    message = f"events[{number}]: {error.message}"
    return pb.EventOutcome(event_id=event.id[:64], status=REJECTED, reason=error.reason, message=message)


def _add(answer: pb.ImportEventsResponse, ends: dict[int, int], written: Written) -> None:
    answer.accepted_count += written.count(ACCEPTED)
    answer.duplicate_count += written.count(DUPLICATE)
    rejected = [outcome for outcome in written.outcomes if outcome.status == REJECTED]
    answer.rejected_count += len(rejected)
    answer.rejected_samples.extend(rejected[: limits.REJECTED_SAMPLES_MAX - len(answer.rejected_samples)])
    for partition, end in written.ends.items():
        ends[partition] = max(ends.get(partition, 0), end)
