"""Bounds of the way in and of the sinks, each with its reason."""

from __future__ import annotations

from runtime.redis_client import ANSWER_WAIT_S_MAX, BLOCK_WAIT_S_MAX

# The door.
SKEW_S_MAX = 300  # how far clocks may differ; the contract names it too (event.proto)
KEY_CACHE_ITEMS_MAX = 200_000  # ids and keys: some 30 MB; a miss costs one query for the whole batch
REJECTED_SAMPLES_MAX = 20  # of an import; the contract names it too (ingest_service.proto)
CHUNK_EVENTS_MAX = 1_000  # of an import's message; the contract names it too
APPEND_ENTRIES_MAX = 1_000  # of one script call: about 5 ms in which Redis serves nobody else
TAKE_ENTRIES_MAX = 2_000  # of one read, for the same reason; a larger batch is put together from several
ANNOUNCE_WAIT_S_MAX = 0.25  # for Redis after an upsert's commit; serving looks by itself twice a second

# The stream.
# An id is remembered so long: a caller's retries after an afternoon's outage still count once. Costs some 140 bytes an
# event, 300 MB at a steady 100 a second. Sent again later, it is a new event: the contract says so (event.proto).
DEDUPLICATION_WINDOW_S = 6 * 3600
STREAM_ENTRIES_MAX = 1_000_000  # of a partition: some 250 MB, an hour of a dead sink at 300 events a second
STREAM_RETRY_DELAY_MS = 1_000
DEAD_LETTERS_MAX = (
    10_000  # of a partition in Redis; its sink waits only when the lake has taken none for so many
)
DEAD_LETTERS_KEPT = 1_000  # stay in Redis: some 500 KB; older ones go to the lake ...
DEAD_LETTERS_FILED = 1_000  # ... so many to a file
REPLAYED_KEPT_S = (
    24 * 3600
)  # names of letters that went back, after all of their file did; two may play it at once
# Of Redis' maxmemory: above this ingest refuses events, so that profiles, leases and heartbeats always have room. At the limit
# Redis would refuse them, no sink could go on, and nothing would ever drain. What comes in between two looks (some 5 MB at
# 20,000 events a second) must fit into the rest.
MEMORY_SHARE_MAX = 0.8
MEMORY_LOOK_S = 0.5
MEMORY_RETRY_DELAY_MS = 2_000  # a sink that is behind takes longer than that anyway
# For replicas to say that they have it (RECO_DURABILITY=replicas): some 0.1 ms is usual, a slow sync of theirs takes a second.
WAIT_MS_MAX = 2_000
REPLICAS_RETRY_DELAY_MS = 500
FENCE_TTL_MS = 60_000  # what makes WAIT answer for a call that wrote nothing needs no longer life
VERIFY_RETRY_S = 0.5  # between looks at a store that is away when ingest starts
DEAD_LETTER_REASON_CHARS_MAX = 200
assert DEAD_LETTERS_KEPT + DEAD_LETTERS_FILED < DEAD_LETTERS_MAX
# Above this the next call begins a new millisecond, so that the sequence of a place fits 16 bits.
SEQUENCE_TURN = 64_000

assert WAIT_MS_MAX < ANSWER_WAIT_S_MAX * 1000, (
    "replicas that are late are told as such, not as a store that is silent"
)
assert SEQUENCE_TURN + APPEND_ENTRIES_MAX < 1 << 16

# The sinks.
PROFILE_BATCH_EVENTS_MAX = 1_000  # written in some 50 ms, so that no event waits long for the ones before it
POSTGRES_BATCH_EVENTS_MAX = 1_000
LAKE_BATCH_EVENTS_MAX = 20_000  # of one file: about 1 MB
LAKE_FILL_S_MAX = 2.0  # how old the lake may be while few events come
THREAD_EVENTS_MIN = 2_000  # decoding more than this would keep the profile sink's events waiting

# Failing.
RETRY_WAIT_S_MIN = 0.05
RETRY_WAIT_S_MAX = 2.0  # a store that is back is found again within this
LEASE_TTL_S = 10.0  # after a consumer was killed, its successor waits for so long
LEASE_RENEW_S = 1.5

assert LEASE_TTL_S > LEASE_RENEW_S + BLOCK_WAIT_S_MAX + LAKE_FILL_S_MAX, (
    "a lease outlives an idle turn of the loop"
)

# Sharing out: how soon units move. A process that joins or leaves is seen a beat later; one that hangs after MEMBER_TTL_S, and
# its units are free when its leases have run out; then each waits LEASE_POLL_S, and for the end of a batch that is under way.
BEAT_EVERY_S = 1.0
MEMBER_TTL_S = 5.0  # a busy event loop is late by a second at most
SILENCE_S_MAX = 3 * BEAT_EVERY_S  # after a longer one, the list is believed from the second answer on
LEASE_POLL_S = 0.25  # until the process before has given a unit back
ADOPT_AFTER_S = (
    5.0  # between the two looks that find a lease free, though a process that lives should have it
)
ADOPTED_S = 300.0  # then its owner, which may have hung in one write only, gets another chance

assert ADOPT_AFTER_S > BEAT_EVERY_S + RETRY_WAIT_S_MAX, "an owner that is well has taken its lease by then"
assert BEAT_EVERY_S < SILENCE_S_MAX < MEMBER_TTL_S <= LEASE_TTL_S, (
    "who is dropped could still be writing otherwise"
)

# Upkeep.
TRIM_EVERY_S = 5.0
LAG_EVERY_S = 2.0
PARTITIONS_EVERY_S = (
    600.0  # they are made days ahead; what lies in the default one meanwhile is soon in its place
)
RETIRE_EVERY_S = 6 * 3600.0  # a day that the lake has not the same is read anew each time
CHORE_RETRY_S = 30.0
LAKE_LOOK_EVERY_S = 600.0  # for hours to compact: each has settled for ten minutes by then
LAKE_MANIFEST_EVERY_S = 3_600.0  # and, after it, what is too old goes
LAKE_EXPORT_EVERY_S = 30.0  # how old the lake's items and users may be
SPILL_EVERY_S = 1.0  # some thousand letters come in a second at most
# Changes of items and users stay in Postgres so long after they were exported: for `reco items history`, and for a lake that was lost.
CHANGES_KEEP_DAYS = 30
CHANGES_EVERY_S = 3600.0
CHANGES_ROWS_MAX = 10_000  # let go in one transaction, some 50 ms
CHANGES_BATCHES_MAX = 500  # of one turn
