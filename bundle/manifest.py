"""What a bundle says of itself: which files it has, how large, of which shape, with which checksum."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError

SCHEMA_VERSION = 1  # raised whenever an older serving process could misread what a newer training wrote
MANIFEST_FILE = "manifest.json"
FEATURES_PARAM = "features"  # the names of what the ranker was trained on, in order
MANIFEST_BYTES_MAX = 1024 * 1024  # a few dozen arrays take 10 KiB; beyond this the file is not ours
VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FILE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}\.(npy|bin)")


class BundleError(StateError):
    """The bundle can't be used: it is incomplete, altered or of another schema. Publish the model again."""

    def __init__(self, version: str, description: str) -> None:
        message = f"model {version} is refused: {description}; publish it again"
        metadata = {"version": version, "description": description}
        super().__init__(error_reason_pb2.ERROR_REASON_MODEL_REFUSED, message, metadata)


@dataclass(frozen=True)
class FileEntry:
    """One file: its size and its checksum; for an array its shape and dtype too."""

    file: str
    bytes: int
    sha256: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The whole description of a bundle."""

    version: str
    create_time_s: float
    engine: Mapping[str, str]  # versions of what made it, by name
    params: Mapping[str, Any]  # json scalars
    metrics: Mapping[str, float]
    arrays: Mapping[str, FileEntry]
    files: Mapping[str, FileEntry]
    schema_version: int = SCHEMA_VERSION

    @property
    def size_bytes(self) -> int:
        return sum(entry.bytes for entry in (*self.arrays.values(), *self.files.values()))

    def to_json(self) -> bytes:
        """The manifest as a file, with the digest of its own text: altered parameters are noticed too."""
        body = asdict(self)
        return json.dumps({"sha256": _digest(body), **body}, indent=1, sort_keys=True).encode()


def read_manifest(version: str, data: bytes) -> Manifest:
    """The manifest of `to_json`; BundleError if it is damaged, of another schema, or of another model."""
    body = _parse(version, data)
    found = body.get("schema_version")
    if found != SCHEMA_VERSION:
        raise BundleError(version, f"{MANIFEST_FILE}: schema {found!r}, this engine reads {SCHEMA_VERSION}")
    if body.pop("sha256", None) != _digest(body):
        raise BundleError(version, f"{MANIFEST_FILE}: checksum differs")
    if body.get("version") != version:
        raise BundleError(version, f"{MANIFEST_FILE}: it is the manifest of {body.get('version')!r}")
    try:
        arrays, files = _entries(version, body.pop("arrays")), _entries(version, body.pop("files"))
        return Manifest(**body, arrays=arrays, files=files)
    except (TypeError, KeyError, AttributeError) as error:  # whole, but a part is missing or of another kind
        raise BundleError(version, f"{MANIFEST_FILE}: not as this engine writes it: {error}") from None


def _parse(version: str, data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BundleError(version, f"{MANIFEST_FILE}: not a JSON object, it is truncated or damaged")
    return body


def _entries(version: str, raw: Mapping[str, Mapping[str, Any]]) -> dict[str, FileEntry]:
    # The checksum only proves that nobody damaged the manifest, not that nobody wrote "../../etc/passwd" into it.
    for entry in raw.values():
        if not FILE_PATTERN.fullmatch(entry["file"]):
            raise BundleError(version, f"{MANIFEST_FILE}: {entry['file']!r} is no file name of a bundle")
    return {name: FileEntry(**{**entry, "shape": _shape(entry["shape"])}) for name, entry in raw.items()}


def _shape(raw: list[int] | None) -> tuple[int, ...] | None:
    return None if raw is None else tuple(raw)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
