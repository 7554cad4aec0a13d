"""From WriteEvents to what the three sinks hold."""

from __future__ import annotations

import pyarrow.dataset as ds
from reco.ingest.v1.ingest_service_pb2 import EventOutcome, WriteEventsRequest

from profiles.codec import decode
from profiles.store import read_profile
from tests.integration.ingest.harness import Ingest
from tests.integration.ingest.samples import EVENT_TIME_S, event, items


async def test_written_events_reach_every_sink_once(ingest: Ingest) -> None:
    await ingest.stub.UpsertItems(items())
    events = [event() for _ in range(100)]
    async with ingest.consumers():
        answer = await ingest.stub.WriteEvents(WriteEventsRequest(events=events))
        await ingest.caught_up()

    assert answer.accepted_count == 100
    assert {outcome.status for outcome in answer.outcomes} == {EventOutcome.STATUS_ACCEPTED}
    ids = sorted(each.id for each in events)
    async with ingest.pool.connection() as connection:
        rows = await (await connection.execute("SELECT event_id FROM events ORDER BY event_id")).fetchall()
    assert [row[0] for row in rows] == sorted(ids)
    lake = (
        ds.dataset(ingest.settings.data_dir / "lake" / "kind=events", partitioning="hive")
        .to_table()
        .to_pylist()
    )
    assert sorted(row["event_id"] for row in lake) == ids
    own = [each for each in events if each.user_id == "user-3"]
    profile = decode(await read_profile(ingest.redis, "u:user-3"))
    assert profile.event_count == len(own)
    assert profile.times.tolist() == [each.event_time.seconds for each in own]
    assert profile.first_time == own[0].event_time.seconds > EVENT_TIME_S
