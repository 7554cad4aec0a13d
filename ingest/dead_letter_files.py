"""Dead letters in the lake: _dead_letters/partition=<p>/letters-<first>-<last>.parquet, made once and never changed.

When all letters of a file went back, an empty file beside it, named as it with `.replayed` behind, says so, and stays: whoever
was paused while writing may make the file once more, and that must count for nothing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.lake.files import LakeFiles, ThereAlreadyError
from profiles.offsets import pack_offset

FOLDER = "_dead_letters"  # engines pass over names that begin with "_"
REPLAYED = ".replayed"
_SUFFIX = ".parquet"
_SCHEMA = pa.schema([
    pa.field("id", pa.string(), nullable=False), pa.field("sink", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False), pa.field("stream_offset", pa.int64(), nullable=False),
    pa.field("data", pa.binary(), nullable=False),
])  # fmt: skip


@dataclass(frozen=True)
class DeadLetter:
    """An entry that was set aside."""

    id: str  # "<partition>:<ms>-<seq>"; its ms is when it was set aside
    partition: int
    sink: str  # who refused it
    reason: str
    offset: int  # where it stood first
    data: bytes  # as it was appended

    @property
    def place(self) -> int:
        """Its place among the letters of its partition: a packed offset."""
        return pack_offset(self.id.partition(":")[2])


def path_of(partition: int, letters: Sequence[DeadLetter]) -> str:
    """The file of these letters: the same letters, the same file; later ones sort behind it."""
    return f"{_folder(partition)}/letters-{letters[0].place:020d}-{letters[-1].place:020d}{_SUFFIX}"


def newest_of(path: str) -> int:
    """The place of the last letter of a file."""
    return int(path.rpartition("-")[2].removesuffix(_SUFFIX))


def paths_of(files: LakeFiles, partition: int) -> list[str]:
    """The files that may hold letters still, oldest first. Raises DependencyError."""
    names = files.list(_folder(partition))
    done = {name.removesuffix(REPLAYED) for name in names if name.endswith(REPLAYED)}
    return [f"{_folder(partition)}/{name}" for name in names if name.endswith(_SUFFIX) and name not in done]


def to_parquet(letters: Sequence[DeadLetter]) -> bytes:
    """Letters of one partition as a file."""
    rows = [(x.id, x.sink, x.reason, x.offset, x.data) for x in letters]
    arrays = [
        pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
    ]
    out = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA)
    pq.write_table(table, out, compression="zstd", write_page_checksum=True)
    return out.getvalue()


def read(files: LakeFiles, partition: int, path: str) -> list[DeadLetter]:
    """The letters of a file; none when it was done with meanwhile. Raises DependencyError, pa.ArrowException, OSError."""
    try:
        return from_parquet(partition, files.read(path))
    except FileNotFoundError:
        return []


def from_parquet(partition: int, data: bytes) -> list[DeadLetter]:
    """The letters of `to_parquet`. Raises pa.ArrowException, OSError for a damaged file."""
    rows = pq.read_table(io.BytesIO(data), schema=_SCHEMA, page_checksum_verification=True).to_pylist()
    return [
        DeadLetter(row["id"], partition, row["sink"], row["reason"], row["stream_offset"], row["data"])
        for row in rows
    ]


def finish(files: LakeFiles, path: str) -> None:
    """Says that all letters of a file went back, then removes it. Raises DependencyError, OverloadError."""
    with contextlib.suppress(ThereAlreadyError):
        files.create(f"{path}{REPLAYED}", b"")
    files.remove(path)


def _folder(partition: int) -> str:
    return f"{FOLDER}/partition={partition}"
