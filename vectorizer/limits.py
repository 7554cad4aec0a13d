"""Sizes of the request's stages, named once; the workspace is allocated from them."""

from __future__ import annotations

RING_EVENT_COUNT_MAX = 64  # what a profile keeps of a user
PERSONAL_COUNT_MAX = (
    150  # candidates by inner product; design figure, recall of the union 0.75 on MovieLens-100k
)
TRANSITION_COUNT_MAX = 120  # candidates that follow the recent items
SIMILAR_COUNT_MAX = 80  # candidates similar to the recent items
POPULAR_COUNT_MIN = 100  # candidates are filled up from the popular items to this many
CANDIDATE_COUNT_MAX = 1_024  # rows that one call may score: a gathered list, or a caller's own
SESSION_GAP_S = 1_800  # events closer to now than this are the same visit

GATHERED_COUNT_MAX = PERSONAL_COUNT_MAX + TRANSITION_COUNT_MAX + SIMILAR_COUNT_MAX + POPULAR_COUNT_MIN
assert GATHERED_COUNT_MAX <= CANDIDATE_COUNT_MAX
