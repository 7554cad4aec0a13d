"""Bounds of making a store anew, each with its reason."""

from __future__ import annotations

MEMORY_LIMIT = "1GB"  # of the sort of all events; beyond it goes to the disk
BATCH_ROWS = 100_000  # of one batch out of the sort: some 10 MB as arrays
TAIL_ROWS = 10_000  # of one read from Postgres or the stream
WRITE_COUNT = 1_000  # commands of one pipeline: Redis serves others in between
# An id is remembered for DEDUPLICATION_WINDOW_S from when it was appended; acceptance is told before that, by another clock.
WINDOW_SLACK_S = 60.0
LEASE_WAIT_S = 2.0  # between two renewals: more than LEASE_RENEW_S, so that each asks the store
