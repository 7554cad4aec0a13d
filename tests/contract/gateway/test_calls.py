"""REST calls arrive as the contract's messages, and answers come back as ProtoJSON."""

from __future__ import annotations

import httpx
from reco.ingest.v1 import event_pb2, ingest_service_pb2

from tests.contract.gateway.fakes import Script

EVENT = {"id": "e1", "userId": "u1", "item_id": "i1", "type": "EVENT_TYPE_RATING", "value": 4.5}


async def test_write_events_when_body_is_json_reaches_ingest_as_a_message(
    client: httpx.AsyncClient, script: Script
) -> None:
    outcome = ingest_service_pb2.EventOutcome(
        event_id="e1", status=ingest_service_pb2.EventOutcome.STATUS_ACCEPTED, offset="0:1-0"
    )
    script.answers["WriteEvents"] = ingest_service_pb2.WriteEventsResponse(
        outcomes=[outcome], offset="0:1-0", accepted_count=1
    )

    answer = await client.post("/v1/events:write", json={"events": [EVENT]})

    event = event_pb2.Event(id="e1", user_id="u1", item_id="i1", type=event_pb2.EVENT_TYPE_RATING, value=4.5)
    assert script.requests == [ingest_service_pb2.WriteEventsRequest(events=[event])]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "outcomes": [
            {
                "eventId": "e1",
                "status": "STATUS_ACCEPTED",
                "offset": "0:1-0",
                "reason": "ERROR_REASON_UNSPECIFIED",
                "message": "",
            }
        ],
        "offset": "0:1-0",
        "acceptedCount": 1,
        "duplicateCount": 0,
        "rejectedCount": 0,
    }
