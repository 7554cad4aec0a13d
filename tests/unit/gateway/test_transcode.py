"""Our transcoder against protobuf's own json_format, over random messages; and what it refuses."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from reco.ingest.v1 import ingest_service_pb2
from reco.ranking.v1 import model_service_pb2, ranking_service_pb2

from gateway.decode import Decoders
from gateway.encode import Encoders
from gateway.limits import DEPTH_MAX
from gateway.scalars import INTEGER_RANGES, DecodeError
from gateway.transcode import RequestReader
from tests.unit.gateway.kitchen import kitchen_class

Kitchen = kitchen_class()
TYPES = (
    Kitchen,
    ingest_service_pb2.WriteEventsRequest,
    ingest_service_pb2.WriteEventsResponse,
    ingest_service_pb2.UpsertItemsRequest,
    ranking_service_pb2.RecommendRequest,
    ranking_service_pb2.RecommendResponse,
    model_service_pb2.ListModelsResponse,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SECONDS_MIN, SECONDS_MAX = -62_135_596_800, 253_402_300_799  # years 1 to 9999
decoders, encoders = Decoders(), Encoders()


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values] + [99])
    if field.cpp_type in INTEGER_RANGES:
        return st.integers(*INTEGER_RANGES[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=5)
    return {
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(allow_nan=False, allow_infinity=False, width=32),
    }[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, kind: Any, depth: int = 0) -> Any:
    """A random message: a few of its fields, filled."""
    if kind.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        nanos = draw(st.sampled_from([0, 5_000_000, 123_456_000, 999_999_999]))
        return kind(seconds=draw(st.integers(SECONDS_MIN, SECONDS_MAX)), nanos=nanos)
    if kind.DESCRIPTOR.full_name == "google.protobuf.Duration":
        return kind(seconds=draw(st.integers(-1000, 1000)))
    message = kind()
    fields = [f for f in kind.DESCRIPTOR.fields if not f.message_type or depth < 3]
    for field in draw(
        st.lists(st.sampled_from(fields), max_size=8, unique_by=lambda f: f.name) if fields else st.just([])
    ):
        put(draw, message, field, depth)
    return message


def put(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    target = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        put_map(draw, target, field.message_type, depth)
    elif field.message_type and field.is_repeated:
        for _ in range(draw(st.integers(0, 2))):
            target.add().CopyFrom(draw(messages(field.message_type._concrete_class, depth + 1)))
    elif field.message_type:
        target.CopyFrom(draw(messages(field.message_type._concrete_class, depth + 1)))
        target.SetInParent()
    elif field.is_repeated:
        target.extend(draw(st.lists(scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(scalars(field)))


def put_map(draw: st.DrawFn, target: Any, entry: Descriptor, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for name in draw(st.lists(scalars(key), max_size=2, unique=True)):
        if value.message_type:
            target[name].CopyFrom(draw(messages(value.message_type._concrete_class, depth + 1)))
        else:
            target[name] = draw(scalars(value))


any_message = st.sampled_from(TYPES).flatmap(messages)


def theirs(message: Any, **options: Any) -> Any:
    text = json_format.MessageToJson(message, always_print_fields_with_no_presence=True, **options)
    return json.loads(text)


def decode(kind: Any, value: Any) -> Any:
    message = kind()
    decoders.of(kind.DESCRIPTOR)(value, message, 1)
    return message


@settings(max_examples=300, deadline=None)
@given(any_message)
def test_encode_when_message_is_any_equals_json_format(message: Any) -> None:
    ours = orjson.loads(orjson.dumps(encoders.of(message.DESCRIPTOR)(message)))
    assert ours == theirs(message)


@settings(max_examples=300, deadline=None)
@given(any_message, st.booleans())
def test_decode_when_json_is_from_json_format_gives_the_message_back(message: Any, snake: bool) -> None:
    value = theirs(message, preserving_proto_field_name=snake)
    assert decode(type(message), orjson.loads(orjson.dumps(value))) == message


@settings(max_examples=100, deadline=None)
@given(any_message)
def test_round_trip_when_message_is_any_changes_nothing(message: Any) -> None:
    text = orjson.dumps(encoders.of(message.DESCRIPTOR)(message))
    assert decode(type(message), orjson.loads(text)) == message
    assert json_format.Parse(text, type(message)()) == message


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ([], "", "expected an object"),
        ({"nothing": 1}, "", "no field 'nothing' in test.Kitchen"),
        ({"childList": [{}, {"nothing": 1}]}, "childList[1]", "no field 'nothing'"),
        ({"childByText": {"a b": {"anInt32": "x"}}}, "childByText['a b'].anInt32", "expected an integer"),
        ({"an_int32": 2**31}, "anInt32", "from -2147483648 to 2147483647"),
        ({"aUint32": -1}, "aUint32", "from 0"),
        ({"anInt64": 1.5}, "anInt64", "expected an integer"),
        ({"anInt64": "1_0"}, "anInt64", "expected an integer"),
        ({"anInt32": True}, "anInt32", "got true"),
        ({"aUint64": 2**64}, "aUint64", "from 0"),
        ({"aDouble": "NaN"}, "aDouble", "finite"),
        ({"aDouble": math.inf}, "aDouble", "finite"),
        ({"aDouble": "1e999"}, "aDouble", "finite"),
        ({"aFloat": 1e39}, "aFloat", "below 3.4028236e+38"),
        ({"aBool": "true"}, "aBool", "expected true or false"),
        ({"aBool": 1}, "aBool", "expected true or false"),
        ({"aString": 5}, "aString", "expected a string"),
        ({"aStringList": ["a", None]}, "aStringList[1]", "got null"),
        ({"aStringList": "a"}, "aStringList", "expected a list"),
        ({"childList": {}}, "childList", "expected a list"),
        ({"byText": []}, "byText", "expected an object"),
        ({"byInt": {"x": 1}}, "byInt['x']", "expected an integer"),
        ({"byBool": {"yes": 1}}, "byBool['yes']", "expected true or false"),
        ({"someBytes": "***"}, "someBytes", "base64"),
        ({"color": "COLOR_SKY"}, "color", "a name of test.Color"),
        ({"time": "yesterday"}, "time", "a time such as"),
        ({"time": "2026-02-30T00:00:00Z"}, "time", "year 1 to 9999"),
        ({"time": 5}, "time", "a time such as"),
        ({"span": "long"}, "span", "a Duration"),
        ({"aString": "a", "a_string": "b"}, "aString", "given twice"),
        ({"firstChoice": "a", "second_choice": "b"}, "", "only one of"),
    ],
)  # fmt: skip
def test_decode_when_value_does_not_fit_names_the_place_and_the_rule(
    value: Any, path: str, words: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(Kitchen, value)
    assert caught.value.path == path
    assert words in caught.value.description


def test_decode_when_nested_too_deep_is_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(DEPTH_MAX):
        value = {"child": value}
    with pytest.raises(DecodeError, match="nested deeper"):
        decode(Kitchen, value)
    assert decode(Kitchen, value["child"]).HasField("child")


def test_decode_when_value_is_null_leaves_the_field_unset() -> None:
    assert decode(
        Kitchen, {"child": None, "aString": None, "firstChoice": None, "secondChoice": "b"}
    ) == Kitchen(second_choice="b")


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2026-11-23T10:15:00+02:00", 0),
        ("2026-11-23T08:15:00.000000001Z", 1),
        ("2026-11-23T08:15:00.5Z", 500_000_000),
    ],
)
def test_time_when_written_in_rfc_3339_is_read_to_the_nanosecond(text: str, nanos: int) -> None:
    time = decode(Kitchen, {"time": text}).time
    assert (time.seconds, time.nanos) == (1_795_421_700, nanos)


def test_texts_when_names_are_dotted_and_repeated_fill_the_message() -> None:
    reader = RequestReader(Kitchen.DESCRIPTOR, "")
    message = Kitchen()
    reader.read_texts(
        message,
        [("child.an_int32", "5"), ("aStringList", "a"), ("a_string_list", "b"), ("color", "7"),
         ("colorList", "COLOR_OAK"), ("aBoolOrNot", "false"), ("aDouble", "-1.5e3"), ("time", "1970-01-01T00:00:01Z")],
    )  # fmt: skip
    expected = Kitchen(an_int32=0, a_string_list=["a", "b"], color=7, color_list=[1], a_double=-1500)
    expected.child.an_int32 = 5
    expected.a_bool_or_not = False
    expected.time.seconds = 1
    assert message == expected


@pytest.mark.parametrize(
    ("texts", "path", "words"),
    [
        ([("nothing", "1")], "nothing", "no parameter"),
        ([("child.nothing", "1")], "child.nothing", "no parameter"),
        ([("childList.anInt32", "1")], "childList.anInt32", "no parameter"),
        ([("child.child.child.child.anInt32", "1")], "child.child.child.child.anInt32", "no parameter"),
        ([("child", "1")], "child", "can't be given in the URL"),
        ([("byText", "1")], "byText", "can't be given in the URL"),
        ([("anInt32", "1"), ("an_int32", "2")], "anInt32", "more than once"),
        ([("aBool", "yes")], "aBool", "expected true or false"),
        ([("anInt32", "")], "anInt32", "expected an integer"),
        ([("aDouble", "nan")], "aDouble", "finite"),
    ],
)
def test_texts_when_they_do_not_fit_name_the_parameter(
    texts: list[tuple[str, str]], path: str, words: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        RequestReader(Kitchen.DESCRIPTOR, "").read_texts(Kitchen(), texts)
    assert caught.value.path == path
    assert words in caught.value.description
