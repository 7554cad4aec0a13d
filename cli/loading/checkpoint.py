"""How far a load has come: written whole or not at all, and only after what it counts was acknowledged."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.files import sync_folder
from training.tables import START, Place

VERSION = 1
HEAD_BYTES = 1 << 20  # of a file, hashed: enough to tell two files of one size and time apart
SAMPLE_COUNT_MAX = 20  # refusals kept for the answer
REASON_COUNT_MAX = (
    100  # told apart by name; the rest is "other reasons", so that a file can't fill the memory
)
OTHER_REASONS = "other reasons"


@dataclass
class Progress:
    """What became of one file so far."""

    place: Place = START
    created: int = 0  # items
    updated: int = 0
    accepted: int = 0  # events
    duplicate: int = 0
    refused: int = 0  # by the server
    set_aside: int = 0  # rows that can't be read
    reasons: dict[str, int] = field(default_factory=dict)  # of both
    samples: list[dict[str, str]] = field(default_factory=list)  # refused events
    rejected_bytes: int = 0  # of the file of rejected rows
    done: bool = False

    def count(self, reason: str) -> None:
        """One more row that was not taken."""
        name = reason if reason in self.reasons or len(self.reasons) < REASON_COUNT_MAX else OTHER_REASONS
        self.reasons[name] = self.reasons.get(name, 0) + 1


@dataclass
class Checkpoint:
    """The progress of the file of items and of that of events, for a source that `identity` tells."""

    identity: dict[str, Any]
    items: Progress = field(default_factory=Progress)
    events: Progress = field(default_factory=Progress)
    write_time_s: float = 0.0

    def write(self, path: Path) -> None:
        """Replaces the file at once; after a crash there is the old one or the new one."""
        self.write_time_s = time.time()
        beside = path.with_name(f"{path.name}.new")
        with beside.open("wb") as file:
            file.write(json.dumps({"version": VERSION, **asdict(self)}, indent=2).encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)


def read(path: Path) -> Checkpoint | None:
    """The checkpoint of a load that was cut off; None where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
        if found.pop("version") != VERSION:
            return None
        items, events = _progress(found["items"]), _progress(found["events"])
        return Checkpoint(found["identity"], items, events, found["write_time_s"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):  # not ours: starting over loses nothing
        return None


def _progress(found: Mapping[str, Any]) -> Progress:
    return Progress(**{**found, "place": Place(*found["place"])})


def identity_of(path: Path) -> dict[str, Any]:
    """Size, time of change and a hash of the head of a file. Raises OSError."""
    stat = path.stat()
    with path.open("rb") as file:
        head = hashlib.blake2b(file.read(HEAD_BYTES), digest_size=16).hexdigest()
    return {"path": str(path.resolve()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "head": head}
