"""A message type with every kind of field that protobuf has, so that the transcoder is tested beyond today's contract."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as F

SCALARS = {
    "a_double": F.TYPE_DOUBLE, "a_float": F.TYPE_FLOAT, "an_int32": F.TYPE_INT32, "an_int64": F.TYPE_INT64,
    "a_uint32": F.TYPE_UINT32, "a_uint64": F.TYPE_UINT64, "a_sint64": F.TYPE_SINT64, "a_fixed32": F.TYPE_FIXED32,
    "a_bool": F.TYPE_BOOL, "a_string": F.TYPE_STRING, "some_bytes": F.TYPE_BYTES,
}  # fmt: skip
MAP_KEYS = {"by_text": F.TYPE_STRING, "by_int": F.TYPE_INT64, "by_bool": F.TYPE_BOOL}


def kitchen_class() -> Any:
    """The class of `test.Kitchen`."""
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(_file())  # type: ignore[no-untyped-call]  # protobuf's pool has no types for it
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Kitchen"))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="kitchen.proto", package="test", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/duration.proto"])
    color = file.enum_type.add(name="Color")
    for number, name in ((0, "COLOR_UNSPECIFIED"), (1, "COLOR_OAK"), (7, "COLOR_LEAF")):
        color.value.add(name=name, number=number)
    _fill(file.message_type.add(name="Kitchen"))
    return file


def _fill(message: descriptor_pb2.DescriptorProto) -> None:
    for name, kind in SCALARS.items():
        _add(message, name, kind)
        _add(message, f"{name}_list", kind, repeated=True)
        _add(message, f"{name}_or_not", kind, optional=True)
    _add(message, "color", F.TYPE_ENUM, ".test.Color")
    _add(message, "color_list", F.TYPE_ENUM, ".test.Color", repeated=True)
    for name, kind in (
        ("child", ".test.Kitchen"),
        ("time", ".google.protobuf.Timestamp"),
        ("span", ".google.protobuf.Duration"),
    ):
        _add(message, name, F.TYPE_MESSAGE, kind)
        _add(message, f"{name}_list", F.TYPE_MESSAGE, kind, repeated=True)
    for name, key in MAP_KEYS.items():
        _add_map(message, name, key, F.TYPE_DOUBLE, "")
    _add_map(message, "child_by_text", F.TYPE_STRING, F.TYPE_MESSAGE, ".test.Kitchen")
    message.oneof_decl.add(name="choice")
    for name in ("first_choice", "second_choice"):
        _add(message, name, F.TYPE_STRING).oneof_index = 0
    for field in message.field:  # hidden oneofs come last
        if field.proto3_optional:
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


def _add(
    message: Any, name: str, kind: Any, type_name: str = "", repeated: bool = False, optional: bool = False
) -> Any:
    label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
    field = message.field.add(name=name, number=len(message.field) + 1, type=kind, label=label)
    if type_name:
        field.type_name = type_name
    if optional:
        field.proto3_optional = True
    return field


def _add_map(message: Any, name: str, key: Any, value: Any, type_name: str) -> None:
    entry_name = "".join(part.title() for part in name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    _add(entry, "key", key)
    _add(entry, "value", value, type_name)
    _add(message, name, F.TYPE_MESSAGE, f".test.Kitchen.{entry_name}", repeated=True)
