"""What comes over the wire: events, requests as protobuf and as JSON, tokens, what Redis publishes."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError as WireError
from google.protobuf.message import Message
from reco.ingest.v1 import ingest_service_pb2 as ingest_pb
from reco.ingest.v1.event_pb2 import AcceptedEvent
from reco.ranking.v1 import ranking_service_pb2 as ranking_pb

from gateway.scalars import DecodeError
from gateway.transcode import RequestReader, ResponseWriter
from ingest import events
from ingest.lake.table import to_parquet, to_table
from ingest.sinks.postgres import row_of
from ingest.stream import Entry
from ingest.texts import has_nul
from profiles import item_news, offsets
from profiles.codec import pack_event
from profiles.item_news import ItemNews
from profiles.signals import signal_of
from runtime.errors import CallerError, RecoError
from runtime.rpc import validate
from serving import tokens
from tests.fuzz.json_texts import altered, object_text
from tests.fuzz.target import Choices, Target, text_of
from tests.integration.ingest.samples import accepted, event, items

REQUESTS: list[Any] = [
    ingest_pb.WriteEventsRequest, ingest_pb.ImportEventsRequest, ingest_pb.UpsertItemsRequest,
    ingest_pb.DeleteItemsRequest, ingest_pb.UpsertUsersRequest, ranking_pb.RecommendRequest,
    ranking_pb.RankItemsRequest, ranking_pb.SimilarItemsRequest, ranking_pb.ExplainRequest,
]  # fmt: skip
READERS = [RequestReader(kind.DESCRIPTOR, "*") for kind in REQUESTS]
WRITERS = [ResponseWriter(kind.DESCRIPTOR) for kind in REQUESTS]


def stream_entry(data: bytes) -> None:
    """An entry of the stream is an event or poison; what a sink makes of an event blames no store, or it would wait for ever."""
    good, poison = events.decode([Entry(7 << 16, data)], "lake")
    assert len(good) + len(poison) == 1
    assert all(refused.reason for refused in poison)
    for each in good:
        assert each.subject
        has_nul(each.accepted.event)
        try:
            row_of(each)
            to_parquet(to_table([each]), each.offset)
            sent = each.accepted.event
            pack_event(sent.event_time.seconds, signal_of(sent.type, sent.value), each.accepted.item_key)
        except RecoError as error:
            raise AssertionError(f"an event at fault passes for a store that is away: {error}") from error
        except (ValueError, OverflowError):  # set aside by ingest/consumer.py
            continue


def request(data: bytes) -> None:
    """A request is parsed by protobuf, then held to the rules; CallerError says which one it breaks."""
    kind = REQUESTS[data[0] % len(REQUESTS)] if data else REQUESTS[0]
    message: Message = kind()
    with contextlib.suppress(WireError, CallerError):
        message.ParseFromString(data[1:])
        validate(message)


def json_body(data: bytes) -> None:
    """A body is read or refused by DecodeError; what is read comes back from its own JSON, and as protobuf's reader has it."""
    number = data[0] % len(READERS) if data else 0
    reader, body = READERS[number], data[1:]
    message = reader.message_class()
    try:
        reader.read_body(message, body)
    except DecodeError:
        return
    message.SerializeToString()
    written = WRITERS[number].write(message)
    again = reader.message_class()
    reader.read_body(again, written)
    assert again == message, f"{body!r} was read as {message}, and comes back as {again}"
    with contextlib.suppress(json_format.ParseError):  # stricter where names come twice
        assert json_format.Parse(body or b"{}", reader.message_class()) == message, body


def json_tree(data: bytes) -> None:
    """The same for bodies that are nearly what they should be."""
    choices = Choices(data)
    number = choices.number(len(READERS))
    text = object_text(choices, REQUESTS[number].DESCRIPTOR)
    json_body(bytes((number,)) + text.encode(errors="replace"))


def json_query(data: bytes) -> None:
    """The parameters of a URL are read or refused by DecodeError."""
    reader = READERS[data[0] % len(READERS)] if data else READERS[0]
    message = reader.message_class()
    with contextlib.suppress(DecodeError):
        pairs = parse_qsl(data[1:].decode(errors="replace"), keep_blank_values=True)
        reader.read_texts(message, pairs)
        message.SerializeToString()


def item_change(data: bytes) -> None:
    """News of items is read or passed over."""
    found = item_news.decode(data)
    if found is not None and len(found.gone) <= item_news.GONE_COUNT_MAX and abs(found.xid) < 1 << 63:
        assert item_news.decode(item_news.encode(found)) == found


def item_tree(data: bytes) -> None:
    """The same for news that is nearly news."""
    item_change(altered(Choices(data), _PLAIN_NEWS).encode())


def offset_token(data: bytes) -> None:
    """An offset is read or refused by CallerError; what is read comes back from its own token."""
    try:
        found = offsets.parse_token(text_of(data))
    except CallerError:
        return
    assert offsets.parse_token(offsets.make_token(found)) == found


def attribution_token(data: bytes) -> None:
    """An attribution token is read or is none."""
    found = tokens.read_attribution_token(text_of(data))
    if found is not None:
        again = tokens.make_attribution_token(found.answer_id, found.time_s, found.model_version)
        assert tokens.read_attribution_token(again) == found


def page_token(data: bytes) -> None:
    """A page token is read or refused, whole ones with another content too."""
    body = data[2:]
    texts = (text_of(data), tokens._encode(body + tokens._CHECK.pack(tokens.zlib.crc32(body))))
    for text in texts:
        with contextlib.suppress(CallerError):
            keys = tokens.read_page_token(text, 7)
            assert (np.diff(keys) > 0).all()
            assert (keys >= 0).all()


def _events() -> bytes:
    full = event(value=3.5, session_id="s", surface="home", attribution_token="t")
    full.context.device = "phone"
    full.context.attributes["n"].number_value = 2.0
    full.context.attributes["b"].bool_value = True
    return ingest_pb.WriteEventsRequest(events=[full, event()]).SerializeToString()


def _json_seeds() -> list[bytes]:
    bodies = [
        orjson.dumps({"events": [{"id": "a", "userId": "u", "itemId": "i", "type": "EVENT_TYPE_CLICK", "value": 1.5,
            "eventTime": "2026-11-23T10:15:00.5Z", "context": {"attributes": {"x": {"numberValue": 1}}}}]}),
        orjson.dumps({"events": [{"id": "a", "user_id": "u", "item_id": "i", "type": 3}]}),
        orjson.dumps({"items": [{"id": "i", "title": "t", "categories": ["c"], "numericAttributes": {"y": 1e3},
            "stringAttributes": {"b": "x"}, "expireTime": "2026-11-23T10:15:00+01:00"}]}),
        orjson.dumps({"itemIds": ["a", "b"]}),
        orjson.dumps({"users": [{"id": "u", "numericAttributes": {"age": 3}}]}),
        orjson.dumps({"userId": "u", "pageSize": 20, "filter": "a = 1", "minimumOffset": "0:1-1"}),
        orjson.dumps({"userId": "u", "itemIds": ["a"]}), orjson.dumps({"itemId": "a", "pageSize": "3"}),
    ]  # fmt: skip
    return [bytes((i,)) + body for body in bodies for i in range(len(READERS))]


_JSON_WORDS = (
    b"null", b"true", b'"NaN"', b"1e999", b"-0", b'"3"', b"3.0", b"\\ud800", b"\\u0000", b"[[[[", b'{"a":', b"[]", b"{}",
    b"9007199254740993", b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59.999999999Z", b'"seconds":', b"EVENT_TYPE_",
)  # fmt: skip
_PLAIN_NEWS = {"database": "7-1", "xid": 5, "gone": [1, 2, 3]}
_NEWS = item_news.encode(ItemNews("7-1", 5, (1, 2, 3)))
_WIRE_WORDS = (b"\x08", b"\x12", b"\x1a", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\0", b"\xed\xa0\x80")

TARGETS = [
    Target("stream_entry", stream_entry, [accepted("e", 3).SerializeToString(), AcceptedEvent().SerializeToString(),
        AcceptedEvent(event=ingest_pb.WriteEventsRequest.FromString(_events()).events[0], item_key=4).SerializeToString()],
        _WIRE_WORDS, slow=3),
    Target("request", request, [b"\0" + _events(), b"\1" + _events(), b"\2" + items(2).SerializeToString()],
        _WIRE_WORDS, slow=2),
    Target("json_body", json_body, _json_seeds(), _JSON_WORDS, slow=2),
    Target("json_query", json_query, [b"\5userId=u&pageSize=3&filter=a%3D1", b"\7itemId=a&page_size=%E9", b"\3itemIds=a&itemIds=b"],
        (b"%", b"&", b"=", b"context.", b"true", b"1e5")),
    Target("item_news", item_change, [_NEWS], (*_JSON_WORDS, b'"xid":', b'"gone":', b'"database":')),
    Target("json_tree", json_tree, [bytes(range(seed, seed + 60)) for seed in range(0, 180, 30)], slow=2),
    Target("item_tree", item_tree, [bytes(range(seed, seed + 8)) for seed in range(0, 48, 8)]),
    Target("offset_token", offset_token, [b"0:1-1,3:1800000000000-65535", b"", b"\x001:2-3"], (b",", b":", b"-")),
    Target("attribution_token", attribution_token, [tokens.make_attribution_token(bytes(16), 5.0, "m-1").encode()], ()),
    Target("page_token", page_token, [tokens.make_page_token(np.array([1, 5, 900], np.int32), 7).encode(),
        b"xx" + tokens._PAGE_HEAD.pack(2, 7, 3, 4) + b"\x12\x34\x56\x78\x9a", b"xx" + tokens._PAGE_HEAD.pack(2, 7, 0, 2) + b"\0"],
        (b"\xff" * 40,)),
]  # fmt: skip
