"""`reco load`: a data set in, through the ingest service, as any other caller would."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ingest.v1 import event_pb2, ingest_service_pb2, item_pb2
from reco.ingest.v1.event_pb2 import EventType
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub

from cli.output import Json, console, notes, print_json, progress_bar
from cli.system import calls, running_settings
from cli.tables import MOVIELENS, ItemMap, ItemsFile, Loaded, Map, Source, read_source
from profiles.signals import Signal
from runtime.postgres import CONNECT_WAIT_S_MAX
from runtime.settings import Settings
from training.columns import MappedEvent, MappedItem

BATCH_COUNT = 1_000  # the contract's maximum
IMPORT_S_MAX = 24 * 3600.0  # a bulk load may take long, but not for ever
UPSERT_S_MAX = 60.0
# The contract's limits of an item (proto/reco/ingest/v1/item.proto): what is longer is cut, since only ids must be whole.
TITLE_CHARACTER_COUNT_MAX = 512
CATEGORY_COUNT_MAX = 32
CATEGORY_CHARACTER_COUNT_MAX = 64
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # protobuf refuses half a character, PostgreSQL a NUL

EVENT_TYPES: dict[int, EventType.ValueType] = {
    Signal.VIEW: event_pb2.EVENT_TYPE_VIEW,
    Signal.CLICK: event_pb2.EVENT_TYPE_CLICK,
    Signal.ADD_TO_CART: event_pb2.EVENT_TYPE_ADD_TO_CART,
    Signal.PURCHASE: event_pb2.EVENT_TYPE_PURCHASE,
    Signal.RATING_LOW: event_pb2.EVENT_TYPE_RATING,
    Signal.RATING_MID: event_pb2.EVENT_TYPE_RATING,
    Signal.RATING_HIGH: event_pb2.EVENT_TYPE_RATING,
    Signal.LIKE: event_pb2.EVENT_TYPE_LIKE,
    Signal.DISLIKE: event_pb2.EVENT_TYPE_DISLIKE,
    Signal.OTHER: event_pb2.EVENT_TYPE_CUSTOM,
}
CUSTOM_TYPE = "imported"  # of events whose type the file does not tell

T = TypeVar("T")


def load(
    data: Source = MOVIELENS,
    mapping: Map = None,
    items: ItemsFile = None,
    item_mapping: ItemMap = None,
    json: Json = False,
) -> None:
    """Load a data set into the running system. Loading it again changes nothing: events have ids made from what they say.

    Items that the events name and nobody has described are created bare; those that are known stay as they are.

    --json: {"items_created", "items_updated", "events_accepted", "events_duplicate", "events_rejected", "rows_set_aside",
    "rejected_samples": [{"event_id", "message"}]}
    """
    loaded = read_source(data, mapping, items, item_mapping)
    result = load_into(running_settings(), loaded)
    if json:
        print_json(result)
        return
    console.print(
        f"items: {result['items_created']:,} new, {result['items_updated']:,} replaced; events: "
        f"{result['events_accepted']:,} new, {result['events_duplicate']:,} known, {result['events_rejected']:,} refused"
    )
    for sample in result["rejected_samples"]:
        notes.print(f"  {sample['event_id']}: {sample['message']}", markup=False)


def load_into(settings: Settings, loaded: Loaded) -> dict[str, Any]:
    """Upserts the items, then imports the events, with a progress bar; returns what --json prints."""
    with calls(IngestServiceStub, settings.host, settings.ingest_port) as stub, progress_bar() as bar:
        items = _new_or_described(settings, loaded)
        task = bar.add_task("items", total=len(items))
        created = updated = 0
        for batch in _batches(items):
            answer = stub.UpsertItems(
                ingest_service_pb2.UpsertItemsRequest(items=batch), timeout=UPSERT_S_MAX
            )
            created, updated = created + answer.created_count, updated + answer.updated_count
            bar.advance(task, len(batch))
        task = bar.add_task("events", total=len(loaded.events))
        requests = _requests(loaded.events, lambda count: bar.advance(task, count))
        outcome = stub.ImportEvents(requests, timeout=IMPORT_S_MAX)
    return {
        "items_created": created,
        "items_updated": updated,
        "events_accepted": outcome.accepted_count,
        "events_duplicate": outcome.duplicate_count,
        "events_rejected": outcome.rejected_count,
        "rows_set_aside": loaded.bad.count,
        "rejected_samples": [
            {"event_id": x.event_id, "message": x.message} for x in outcome.rejected_samples
        ],
    }


def _requests(
    events: Sequence[MappedEvent], sent: Callable[[int], None]
) -> Iterator[ingest_service_pb2.ImportEventsRequest]:
    times_seen: Counter[str] = Counter()
    for batch in _batches(events):
        yield ingest_service_pb2.ImportEventsRequest(events=[to_event(event, times_seen) for event in batch])
        sent(len(batch))


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), BATCH_COUNT):
        yield rows[start : start + BATCH_COUNT]


def to_event(event: MappedEvent, times_seen: Counter[str]) -> event_pb2.Event:
    """The event with an id made from what it says, so that the same file gives the same ids; equal rows are numbered."""
    said = f"{event.user}\0{event.item}\0{event.time_s}\0{event.code}\0{event.value}"
    digest = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    times_seen[digest] += 1
    number = times_seen[digest]
    kind = EVENT_TYPES[event.code]
    return event_pb2.Event(
        id=digest if number == 1 else f"{digest}-{number}",
        user_id=event.user,
        item_id=event.item,
        type=kind,
        custom_type=CUSTOM_TYPE if kind == event_pb2.EVENT_TYPE_CUSTOM else "",
        value=None if math.isnan(event.value) else event.value,
        event_time=Timestamp(seconds=event.time_s),
    )


def _new_or_described(settings: Settings, loaded: Loaded) -> list[item_pb2.Item]:
    """The items to upsert: an upsert replaces, so what is known is left alone unless this load describes it."""
    described = {item.item: item for item in loaded.items}
    named = dict.fromkeys(event.item for event in loaded.events if event.item not in described)
    known = _known_items(settings.postgres_url, list(named))
    bare = [MappedItem(item, (), 0.0, "") for item in named if item not in known]
    return [to_item(item) for item in (*described.values(), *bare)]


def _known_items(postgres_url: str, ids: list[str]) -> set[str]:
    if not ids:
        return set()
    with psycopg.connect(postgres_url, connect_timeout=CONNECT_WAIT_S_MAX) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM items WHERE id = ANY(%s)", (ids,))}


def to_item(item: MappedItem) -> item_pb2.Item:
    """The item; its release becomes the attribute `year` and, roughly, its time of creation."""
    title = UNSTORABLE.sub("\ufffd", item.title)[:TITLE_CHARACTER_COUNT_MAX]
    names = [UNSTORABLE.sub("\ufffd", name)[:CATEGORY_CHARACTER_COUNT_MAX] for name in item.categories]
    made = item_pb2.Item(
        id=item.item, title=title, categories=list(dict.fromkeys(names))[:CATEGORY_COUNT_MAX]
    )
    if item.released >= 1:
        made.numeric_attributes["year"] = int(item.released)
        made.create_time.FromDatetime(datetime(int(item.released), 1, 1, tzinfo=UTC))
    return made
