"""Events in a lake, for tests: through the sink, as the consumer does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ingest.events import StreamEvent
from ingest.lake.files import LakeFiles
from ingest.lake.listing import readable
from ingest.lake.table import read_table
from ingest.sinks.lake import HOUR_MS, LakeSink
from ingest.stream import Entry
from profiles.offsets import SEQUENCE_BITS
from tests.integration.ingest.samples import accepted

HOUR = 497_223  # since 1970: 2026-09-21 15:00 UTC
FOLDER = "kind=events/date=2026-09-21/hour=15"
NEXT_FOLDER = "kind=events/date=2026-09-21/hour=16"
LATER_S = (HOUR + 3) * 3_600.0  # hours 0 and 1 are finished and settled


def no_check() -> None:
    """The lease of a test is always good."""


def event(number: int, hour: int = 0, event_id: str = "") -> StreamEvent:
    """The event of that number, a millisecond after the one before, in the hour HOUR + `hour`."""
    offset = ((HOUR + hour) * HOUR_MS + number) << SEQUENCE_BITS
    return StreamEvent(Entry(offset, b""), accepted(event_id or f"e{number}", number))


def events(numbers: Iterable[int], hour: int = 0) -> list[StreamEvent]:
    """Events of those numbers."""
    return [event(number, hour) for number in numbers]


async def fill(
    lake: LakeFiles, *batches: list[StreamEvent], partition: int = 0, check: Callable[[], None] = no_check
) -> LakeSink:
    """Writes each batch as a file."""
    sink = LakeSink(lake, partition, check)
    for batch in batches:
        await sink.write(batch)
    return sink


def ids(lake: LakeFiles, paths: list[str] | None = None) -> list[str]:
    """Event ids in the lake, sorted."""
    chosen = readable(lake) if paths is None else paths
    return sorted(each for path in chosen for each in read_table(lake.read(path))["event_id"].to_pylist())


def names(lake: LakeFiles, folder: str = FOLDER) -> list[str]:
    """Files in a folder."""
    return lake.list(folder)
