"""Sizes of the request's stages, named once; the workspace is allocated from them."""

from __future__ import annotations

RING_EVENT_COUNT_MAX = 64  # what a profile keeps of a user
CANDIDATE_LIMIT = 200  # rows that `gather` finds at most: each costs features and 200 trees
# Recall of the next item among the 200, on MovieLens' validation cuts: 0.823 (0.820 without quotas, 0.826 with 100, 80
# and 20; of 2,829 targets the standard error is 0.007, so none of the eighteen settings tried stands out: decision 0004).
# The best of each source have a place; what sources agree on leaves room, and the room is filled by who has more.
PERSONAL_QUOTA = 110  # by inner product
TRANSITION_QUOTA = 55  # what follows the recent items
SIMILAR_QUOTA = 35  # similar to the recent items
PERSONAL_COUNT_MAX = CANDIDATE_LIMIT  # rows by inner product that fill up what the others leave
KEY_COUNT_MAX = 1_024  # rows that stand to be chosen before the worse ones go: several times what is kept
GATHERED_COUNT_MAX = CANDIDATE_LIMIT
CANDIDATE_COUNT_MAX = 1_024  # rows that one call may score: a gathered list, or a caller's own
LIST_COUNT_MAX = 100  # neighbours, or transitions, of an item
BLOCKED_COUNT_MAX = 8_192  # rows of one request that go through the table; more cost a copy of the mask
LANE_COUNT = (
    16  # float32 numbers of one AVX-512 instruction, two of AVX2: inner loops take whole blocks of so many
)
SESSION_GAP_S = 1_800  # events closer to now than this are the same visit

# Every row that one request can meet, so that the table of rows is never full.
TABLE_ROW_COUNT_MAX = (
    RING_EVENT_COUNT_MAX * (2 * LIST_COUNT_MAX + 1) + BLOCKED_COUNT_MAX + PERSONAL_COUNT_MAX + CANDIDATE_LIMIT
)
TABLE_BIT_COUNT = 15  # 32,768 slots of 8 bytes: a quarter of a core's second cache

assert PERSONAL_QUOTA + TRANSITION_QUOTA + SIMILAR_QUOTA == CANDIDATE_LIMIT
assert CANDIDATE_LIMIT == PERSONAL_COUNT_MAX < KEY_COUNT_MAX
assert GATHERED_COUNT_MAX <= CANDIDATE_COUNT_MAX
assert 4 * TABLE_ROW_COUNT_MAX <= 3 << TABLE_BIT_COUNT  # fuller tables probe long
