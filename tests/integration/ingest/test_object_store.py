"""The whole way into a lake in an object store: events, items and users, by the consumer itself."""

from __future__ import annotations

from dataclasses import replace

from reco.ingest.v1.ingest_service_pb2 import WriteEventsRequest

from ingest.lake.files import open_lake
from ingest.lake.listing import readable
from ingest.lake.names import KINDS
from ingest.lake.query import connect
from ingest.lake.verify import verify
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import event, items
from tests.integration.lake.test_upkeep import until


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
