"""How many and how long, stage by stage; the relations between the limits are asserted at the end."""

from __future__ import annotations

from vectorizer.limits import CANDIDATE_COUNT_MAX, GATHERED_COUNT_MAX, RING_EVENT_COUNT_MAX

# Counts.
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 20, 200  # the contract's
PERSONAL_SOURCE_COUNT = 200  # asked of retrieval; the vectorizer's quota takes the best of them
TRENDING_SHARE_COUNT = (
    30  # candidates from the trending list beside a personal list, which they must not crowd out
)
BLOCKED_COUNT_MAX = (
    16_384  # more than a request can block: shown by its page token, excluded, seen, in its ring
)
POPULAR_COUNT_MAX = (
    8_192  # kept of a filter's most popular items: a page of 200 behind 6,000 shown and 1,000 excluded ones
)
TRENDING_COUNT_MAX = 100  # candidates from the trending list; it keeps 1,000, the rest is noise
NEW_COUNT_MAX = 20  # candidates that no model knows yet: at one in ten, enough for a page of 200
LIVE_ITEMS_MAX = 8_192  # new items with vectors of their own between two models: 2 MB, 50 us for all of them
LIVE_COUNT_MAX = 40  # candidates of them in the user's direction
LEARN_USERS_MAX = 64  # who teach a new item, the newest: with more it is well known, and a model is due
LEARN_EVENTS_MAX = 5_000  # read in one look, the newest: 50 ms of decoding in small steps
LIVE_SLICE_COUNT = 64  # of them taken over before requests get their turn: about 1 ms
NEW_STEP_COUNT = 10  # one place in so many may go to an item that no model knows yet
NEW_AGE_S_MAX = 30 * 86_400  # an item that had no event in a month is no news; it only fills up
INLINE_EVENT_COUNT_MAX, CONTEXT_ITEM_COUNT_MAX = 64, 16  # the contract's
CATALOG_BATCH_ROW_COUNT = (
    100  # rows read and applied before other tasks get their turn: 1 to 2 ms; a thousand take longer a row
)
CATALOG_AHEAD_COUNT = 1_000  # rows for which there is always room before they come: ten batches
CATALOG_STEPS_ITEM_COUNT = (
    16_384  # from so many items on, what grows does so in a thread; below it takes 1 ms at once
)
CATALOG_SPARE_PART = 16  # one in so many: with less room than that for new items, more is made
CATEGORY_BITS_COUNT_MAX = 4_096  # categories whose bit is remembered: some 100 bytes each
ATTRIBUTE_COUNT_MAX = 256  # attribute columns of a catalogue; each takes 8 bytes an item
CHANGED_COUNT_MAX = 65_536  # changed keys that are remembered: 256 KB; who is further behind derives anew
REMOVED_COUNT_MAX = 262_144  # items told to be gone during one look that are kept apart: some 20 MB
EXPIRED_COUNT_MAX = (
    4_096  # items that expire one by one, 1 us each; beyond, one pass over all of them is cheaper
)
FILTER_DEPTH_MAX = 32  # nested parentheses; Python's own recursion ends at 1,000
FILTER_PARSED_COUNT_MAX = 1_024  # parsed filters kept: at most 1,024 characters each, so a few MiB
BITMAP_BYTES_MAX = (
    32 * 1024 * 1024
)  # of compiled filters: 256 for a million items, thousands for a small shop
# Of what filters leave of a model's rows: twenty to a hundred for a million items, thousands for a small shop.
ELIGIBLE_BYTES_MAX = 256 * 1024 * 1024
CATCH_UP_COUNT_MAX = 4_096  # changed items that a filter is asked about again on the event loop: about 1 ms
UNMODELLED_COUNT_MAX = (
    20_480  # kept of the items that no model knows: a page of 200 behind all that can be blocked
)
FILTER_DRIFT_SHARE = (
    0.2  # of what passed when a filter's recall was measured: with more or fewer it says nothing any more
)
HIDDEN_SHARE_MAX = (
    0.1  # of a model's rows without any filter: with more, the search is chosen as for a filter
)
LIST_WORN_SHARE = 0.875  # of such a list, or of the popular ones: with fewer left of more, it is made anew
FILTER_LOOK_PERIOD_S = 0.25  # between two looks at filters whose search is yet to be measured or made anew
assert BLOCKED_COUNT_MAX + PAGE_SIZE_MAX < LIST_WORN_SHARE * UNMODELLED_COUNT_MAX
TOKEN_CHARS_MAX = 8_192  # the contract's bound of a page token
RANK_ITEM_COUNT_MAX = 1_000  # the contract's

# Milliseconds and seconds.
CALL_MS_DEFAULT = 1_000  # for callers that set no deadline
# Redis answers in 0.2 ms; but a stall of our own (a busy machine, a model being opened) looks just like a slow Redis.
PROFILE_MS_MAX = 100
OFFSET_WAIT_MS_MAX = (
    250  # for `minimum_offset`: sinks are within 100 ms at p99; beyond, the answer is worth more
)
OFFSET_POLL_MS_MIN, OFFSET_POLL_MS_MAX = 2, 20  # between two looks at the profile
COMPUTE_MS_RESERVE = (
    10  # left for everything after the profile: it takes about 1 ms, ten times that under load
)
TRENDING_PERIOD_S = 1.0
LEARN_PERIOD_S = 10.0  # between two looks at what new items can learn: within a minute is promised
LEARN_OVERLAP_S = 120.0  # looked back at, for events that were committed late
LIVE_PERIOD_S = 0.1  # between an upsert that serving knows of and its item's vector
CATALOG_PERIOD_S = 0.5
# Between two looks at the catalogue while it changes all the time: a look costs some ms, so this bounds what they take of a core.
CATALOG_PAUSE_S = 0.03
MODEL_PERIOD_S = 1.0
REFUSED_RETRY_S = 30.0  # a refused bundle may be one that a shared folder has not shown whole yet
FOLLOW_S_MAX = 5.0  # one look at Postgres; a hanging one must not hide that it hangs
CATALOG_READ_S_MAX = 300.0  # of the first look: millions of rows, some 5 us each; a hanging one must end too
# The catalogue's snapshot: what a start without Postgres answers from may be so old, plus what writing takes.
CATALOG_FILE_PERIOD_S = 60.0
CATALOG_FILE_WRITE_S_MAX = 120.0  # a half that is older than this was left behind
CATALOG_FILE_BYTES_MAX = (
    8 * 1024 * 1024 * 1024
)  # some 40 million items with 30 attributes; twice that on the disk
CATALOG_FILE_TRY_COUNT = 3  # looks at a snapshot that another process replaces meanwhile
CATALOG_MARKER_DAYS_MAX = (
    30  # a snapshot that is older is not begun with: its marker may be gone from Postgres
)
CATALOG_STALE_S = 3.0  # without a successful look for so long, answers say CATALOG_STALE

assert GATHERED_COUNT_MAX + RING_EVENT_COUNT_MAX + TRENDING_COUNT_MAX + NEW_COUNT_MAX + PAGE_SIZE_MAX <= (
    CANDIDATE_COUNT_MAX - LIVE_COUNT_MAX
)
assert RANK_ITEM_COUNT_MAX <= CANDIDATE_COUNT_MAX
assert NEW_COUNT_MAX * NEW_STEP_COUNT >= PAGE_SIZE_MAX
assert PROFILE_MS_MAX + OFFSET_WAIT_MS_MAX + COMPUTE_MS_RESERVE <= CALL_MS_DEFAULT
assert OFFSET_POLL_MS_MAX < OFFSET_WAIT_MS_MAX
assert 2 * CATALOG_PERIOD_S < CATALOG_STALE_S
