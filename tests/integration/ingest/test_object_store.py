"""The whole way into a lake in an object store: events, items and users, by the consumer itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest

from ingest.lake.files import open_lake
from ingest.lake.listing import readable
from ingest.lake.names import EVENTS, KINDS
from ingest.lake.query import connect
from ingest.lake.verify import verify
from ingest.sinks.lake import LakeSink
from runtime import metrics
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import event, items
from tests.integration.lake.test_upkeep import until
from tests.seaweed import BUCKET, Seaweed


async def test_what_is_accepted_is_in_the_bucket_once(ingest: Ingest, s3_url: str) -> None:
    ingest = replace(ingest, settings=ingest.settings.model_copy(update={"lake_url": s3_url}))
    sent = [event() for _ in range(300)]
    await ingest.stub.UpsertItems(items())
    lake = open_lake(s3_url, ingest.settings.data_dir)

    async def has_items() -> bool:
        return bool(readable(lake, "items"))

    async with ingest.consumers():
        await ingest.stub.WriteEvents(WriteEventsRequest(events=sent[:200]))
        await ingest.caught_up()
        await until(has_items)
    async with ingest.consumers():
        await ingest.stub.WriteEvents(WriteEventsRequest(events=sent[200:]))
        await ingest.caught_up()

    with connect(lake, {kind: readable(lake, kind) for kind in KINDS}) as connection:
        ids = connection.execute("SELECT event_id FROM events ORDER BY 1").fetchall()
        assert [row[0] for row in ids] == sorted(each.id for each in sent)
        assert connection.execute("SELECT count(*) FROM items").fetchall() == [(10,)]
    assert verify(lake).faults == ()


async def test_a_store_that_was_killed_and_is_back_has_each_event_once(
    ingest: Ingest, mortal_seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in mortal_seaweed.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{BUCKET}/killed"
    ingest = replace(ingest, settings=ingest.settings.model_copy(update={"lake_url": url}))
    monkeypatch.setattr(LakeSink, "fill_s", 0.0)
    monkeypatch.setattr(LakeSink, "batch_events_max", 5)  # many files, so that it dies between two
    sent = [event() for _ in range(300)]
    await ingest.stub.UpsertItems(items())
    retries = metrics.SINK_RETRIES_TOTAL.labels("lake")
    before = retries._value.get()

    async def was_refused() -> bool:
        return bool(retries._value.get() > before)

    async with ingest.consumers():
        await ingest.stub.WriteEvents(WriteEventsRequest(events=sent))
        mortal_seaweed.kill()
        await until(was_refused)
        await asyncio.to_thread(mortal_seaweed.start)
        await ingest.caught_up()

    lake = open_lake(url, ingest.settings.data_dir)
    with connect(lake, {EVENTS: readable(lake)}) as connection:
        ids = connection.execute("SELECT event_id FROM events ORDER BY 1").fetchall()
    assert [row[0] for row in ids] == sorted(each.id for each in sent)
    assert verify(lake).faults == ()
