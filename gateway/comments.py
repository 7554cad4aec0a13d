"""The contract's comments, by full name: from the descriptors beside the generated code, since the modules leave them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from reco.errors.v1 import error_reason_pb2

from gateway.problems import json_path

DESCRIPTORS: Final = Path(error_reason_pb2.__file__).parents[2] / "descriptors.binpb"
QUOTED_NAME = re.compile(r"`[a-z][a-z0-9_.]*`")

# Field numbers in descriptor.proto, which the paths of source_code_info are made of.
FILE_PARTS: Final = {4: "message_type", 5: "enum_type", 6: "service"}
MESSAGE_PARTS: Final = {2: "field", 3: "nested_type", 4: "enum_type", 8: "oneof_decl"}
ENUM_PARTS: Final = {2: "value"}
SERVICE_PARTS: Final = {2: "method"}
PARTS: Final = {
    "FileDescriptorProto": FILE_PARTS,
    "DescriptorProto": MESSAGE_PARTS,
    "EnumDescriptorProto": ENUM_PARTS,
    "ServiceDescriptorProto": SERVICE_PARTS,
}


def read_comments(path: Path = DESCRIPTORS) -> dict[str, str]:
    """Full name -> comment. In backticks, names of the same file's fields are written as they stand in JSON; others, such
    as the attributes that a filter knows, stay as they are."""
    files = FileDescriptorSet.FromString(path.read_bytes()).file
    return {name: _tidy(text, _field_names(file)) for file in files for name, text in _comments(file)}


def _field_names(file: Any) -> set[str]:
    return {field.name for message in file.message_type for field in message.field}


def _comments(file: Any) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        if location.leading_comments:
            name = _name(file, list(location.path))
            if name:
                yield f"{file.package}.{name}", location.leading_comments


def _name(file: Any, path: list[int]) -> str | None:
    """ "Event.item_id" from [4, 0, 2, 3]; None for what has no name (syntax, options)."""
    at, names = file, []
    for part, index in zip(path[::2], path[1::2], strict=False):
        attribute = PARTS.get(type(at).__name__, {}).get(part)
        if attribute is None:
            return None
        at = getattr(at, attribute)[index]
        names.append(at.name)
    return ".".join(names) if names and len(path) % 2 == 0 else None


def _tidy(text: str, fields: set[str]) -> str:
    lines = [line.strip() for line in text.splitlines() if "buf:lint:ignore" not in line]
    words = " ".join(lines).strip()
    return QUOTED_NAME.sub(lambda found: json_path(found[0]) if found[0][1:-1] in fields else found[0], words)
