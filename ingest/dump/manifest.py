"""What a dump says of itself: its files with their checksums, written last. It tells no times, so equal systems give equal bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError
from runtime.files import sync_folder
from runtime.version import __version__

NAME = "manifest.json"
FORMAT = 1
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of the dump. `table` is "" for a file of the lake, whose path follows `lake/`."""

    path: str
    bytes: int
    sha256: str
    rows: int = 0
    table: str = ""


@dataclass
class Manifest:
    """All that a restore must know before it reads a row."""

    files: list[File] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)  # by table
    counts: dict[str, int] = field(default_factory=dict)  # rows by table
    days: dict[str, list[str]] = field(default_factory=dict)  # by partitioned table
    sequences: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT
    version: str = __version__  # of the engine that wrote it; for people

    def write(self, folder: Path) -> None:
        """Writes it and waits until the disk has it."""
        with (folder / NAME).open("w", encoding="utf-8") as out:
            json.dump(asdict(self), out, indent=1, sort_keys=True)
            out.write("\n")
            out.flush()
        sync(folder / NAME)
        sync_folder(folder)


def read(folder: Path) -> Manifest:
    """The manifest of a dump. Raises StateError: there is none, or it is of another format."""
    try:
        found: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise damaged(f"{folder} is a dump of format {found['format']}, not {FORMAT}: use that version")
        return Manifest(**{**found, "files": [File(**each) for each in found["files"]]})
    except FileNotFoundError:
        raise damaged(f"{folder} has no {NAME}: it is no dump, or one that was cut off") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(f"{folder / NAME} can't be read ({error}): take another copy of the dump") from None


def verify(folder: Path, manifest: Manifest) -> None:
    """Reads every file. Raises StateError naming the first that is missing or differs."""
    for file in manifest.files:
        path = folder / file.path
        if not path.resolve().is_relative_to(folder.resolve()):
            raise damaged(f"{file.path} lies outside of the dump: it was tampered with")
        if not path.is_file():
            raise damaged(f"{path} is missing: take another copy of the dump")
        if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
            raise damaged(f"{path} is damaged (its SHA-256 differs): take another copy of the dump")


def file_of(folder: Path, path: str, rows: int = 0, table: str = "") -> File:
    """What there is to say of a file that was just written; the disk has it then."""
    sync(folder / path)
    return File(path, (folder / path).stat().st_size, sha256_of(folder / path), rows, table)


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Waits until the disk has the file and its name."""
    sync_folder(path)  # fsync of a descriptor, whatever it is of
    sync_folder(path.parent)


def damaged(message: str) -> StateError:
    """The operator's: the dump can't be used."""
    return StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
