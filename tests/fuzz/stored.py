"""What is read from our own stores, where a disk or another version may have had its hand in: profiles, manifests, rules."""

from __future__ import annotations

import contextlib
import json
from typing import cast

import numpy as np
import pyarrow as pa

from bundle import manifest
from bundle.manifest import BundleError, FileEntry, Manifest
from ingest import dead_letter_files
from ingest.dead_letter_files import DeadLetter
from ingest.events import StreamEvent
from ingest.lake.files import LakeFiles
from ingest.lake.manifest import read_manifest
from ingest.lake.table import footer_of, read_table, to_parquet, to_table
from ingest.stream import Entry
from profiles import codec
from profiles.codec import ProfileDamagedError, pack_event
from profiles.limits import VALUE_BYTES_MAX
from runtime.errors import StateError
from serving import surface_file
from serving.surface_file import SurfaceFileError
from tests.fuzz.json_texts import altered
from tests.fuzz.target import Choices, Target
from tests.integration.ingest.samples import accepted

NEWER = np.array([pack_event(1_790_000_000 + i, 2, 5 + i) for i in range(70)], np.uint64)


def profile(data: bytes) -> None:
    """A profile is read or damaged; one that is read takes further events, and stays within its bytes."""
    try:
        found = codec.decode(data)
    except ProfileDamagedError:
        return
    assert codec.applied_offset_of(data) == found.applied_offset
    merged = codec.merge(data, NEWER, 5)
    again = codec.decode(merged)
    assert len(merged) <= VALUE_BYTES_MAX
    assert again.event_count >= found.event_count
    assert again.applied_offset >= found.applied_offset


def manifest_file(data: bytes) -> None:
    """A manifest is read or refused, those with a right checksum too."""
    with contextlib.suppress(BundleError):
        manifest.read_manifest("m", data)
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        body = dict(json.loads(data))
        body.pop("sha256", None)
        whole = json.dumps({"sha256": manifest._digest(body), **body}).encode()
        with contextlib.suppress(BundleError):
            read = manifest.read_manifest("m", whole)
            assert all("/" not in entry.file for entry in read.arrays.values())


def manifest_tree(data: bytes) -> None:
    """The same for manifests that are nearly ones."""
    manifest_file(altered(Choices(data), json.loads(_MANIFEST.to_json())).encode())


def lake_file(data: bytes) -> None:
    """A file of the lake is read, or refused as damaged: never half of it, never another way."""
    with contextlib.suppress(pa.ArrowException, OSError):
        footer = footer_of(data)
        table = read_table(data)
        assert table.num_rows == footer.rows


def lake_manifest(data: bytes) -> None:
    """A manifest of the lake is read, and then fit for use, or refused as damaged."""
    with contextlib.suppress(StateError):
        found = read_manifest(cast(LakeFiles, _OneFile(data)), 1)
        assert found.rows >= 0 or any(entry.rows < 0 for entry in found.files)
        assert all(isinstance(path, str) for path in found.paths("events"))


def lake_manifest_tree(data: bytes) -> None:
    """The same for those that are nearly ones."""
    lake_manifest(altered(Choices(data), _LAKE_MANIFEST).encode())


class _OneFile:
    """A lake in which every path is the same file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, path: str) -> bytes:
        return self._data


def letters(data: bytes) -> None:
    """The same for a file of dead letters."""
    with contextlib.suppress(pa.ArrowException, OSError):
        assert all(letter.partition == 3 for letter in dead_letter_files.from_parquet(3, data))


def rules(data: bytes) -> None:
    """A file of surfaces is read, or refused with its mistakes."""
    with contextlib.suppress(SurfaceFileError):
        surface_file.read("surfaces.toml", data)


def _profiles() -> list[bytes]:
    events = np.array(
        [pack_event(1_780_000_000 + i, 1 + i % 5, (i * 7919) % 100_000) for i in range(400)], np.uint64
    )
    grown = [codec.merge(None, events[:1], 1), codec.merge(None, events[:64], 1 << 20)]
    return [*grown, codec.merge(grown[-1], events, 9 << 16), codec.merge(None, events[:80], 3)]  # fmt: skip


_ENTRY = FileEntry("a.npy", 5, "0" * 64, (2, 3), "float32")
_MANIFEST = Manifest("m", 1.5, {"numpy": "2"}, {"d": 64}, {"ndcg": 0.1}, {"a": _ENTRY}, {"b": _ENTRY})
_EVENTS = [StreamEvent(Entry(i << 16, b""), accepted(f"e{i}", i)) for i in range(20)]
_LETTERS = [DeadLetter(f"3:{i}-0", 3, "lake", "torn", i, b"data") for i in range(5)]
_FILE = {
    "path": "kind=events/date=2026-11-25/hour=07/part-0-1-1.parquet",
    "rows": 3,
    "bytes": 9,
    "last_offset": 7,
}
_LAKE_MANIFEST = {"number": 1, "time": "2026-11-25T07:00:00.000+00:00", "files": [_FILE, _FILE]}
_RULES = b"""[default]                 # for requests without a surface, or with one that is not below; the others start from it
page_size = 20            # where a request says none
served = { window_s = 600 }

[surfaces.home]
filter = 'NOT tags:"adult"'
diversity = 0.2
max_per_category = 4
quotas = { trending = 40, new = 10 }
rotation = { rate = 0.1, time_s = 86400 }
exploration = 0.05

[[surfaces.home.boosts]]
name = "this year"
filter = 'create_time >= 2026-01-01'
weight = 0.2

[[surfaces.home.pins]]
name = "campaign"
item = "sku-4711"
place = 1

[[surfaces.home.promotions]]
name = "own brand"
filter = 'tags:"own-brand"'
share = 0.1

[surfaces.newsletter]
page_size = 6
merging = "turns"
turns = ["personal", "new", "trending"]
served = { window_s = 604800, count = 200 }
"""

TARGETS = [
    Target("profile", profile, _profiles(), (b"\xff" * 8, b"\1", b"\0" * 8)),
    Target("manifest", manifest_file, [_MANIFEST.to_json()], (b"null", b"[[[[", b'"shape":', b"1e999", b"-1", b'"../x"', b"{}")),
    Target("manifest_tree", manifest_tree, [bytes(range(seed, seed + 40)) for seed in range(0, 200, 40)]),
    Target("lake_file", lake_file, [to_parquet(to_table(_EVENTS), 9)], (b"PAR1", b"\0\0\0\0"), slow=10),
    Target("lake_manifest", lake_manifest, [json.dumps(_LAKE_MANIFEST).encode()], (b"null", b"1e999", b'"rows":', b"{}", b"[]")),
    Target("lake_manifest_tree", lake_manifest_tree, [bytes(range(seed, seed + 20)) for seed in range(0, 100, 20)]),
    Target("dead_letters", letters, [dead_letter_files.to_parquet(_LETTERS)], (b"PAR1", b"\0\0\0\0"), slow=10),
    Target("rules", rules, [_RULES], (b"[[", b"]]", b" = ", b"inf", b"nan", b"[surfaces.", b"quotas", b"served", b"rotation", b"\n"), slow=2),
]  # fmt: skip
