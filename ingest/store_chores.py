"""The chores of Postgres and the lake (ingest/chores.py does them)."""

from __future__ import annotations

from ingest import limits
from ingest.change_history import forget_exported
from ingest.chores import Chore
from ingest.events_before import move_before
from ingest.lake.files import open_lake
from ingest.partitions import make_ahead
from ingest.retire import figures_in, retire
from runtime.clock import Clock
from runtime.postgres import Pool
from runtime.settings import Settings


def store_chores(settings: Settings, pool: Pool, clock: Clock) -> list[Chore]:
    """In the order in which they are first done."""
    files = open_lake(settings.lake_url, settings.data_dir)
    keep_days = settings.postgres_event_days
    return [
        Chore("partitions", limits.PARTITIONS_EVERY_S, lambda: make_ahead(pool, clock.time_s())),
        Chore("events_before", limits.PARTITIONS_EVERY_S, lambda: move_before(pool)),
        Chore(
            "retire",
            limits.RETIRE_EVERY_S,
            lambda: retire(pool, figures_in(files), keep_days, clock.time_s()),
        ),
        Chore("changes", limits.CHANGES_EVERY_S, lambda: forget_exported(pool, files, clock.time_s())),
    ]
