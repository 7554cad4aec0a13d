"""Sizes of the retrieval, each with its reason."""

from __future__ import annotations

COUNT = 200  # rows that plans are measured by: what is re-ranked
RECALL_TARGET = (
    0.985  # mean share of the exact COUNT that a plan must find at publish, so that 0.97 holds elsewhere
)
RECALL_P5_TARGET = 0.95  # the same of the query at the 5th percentile

EXACT_ITEMS_MAX = 2_000  # an exact float32 scan of so many rows takes 15 us; below, codes have nothing to win
CELLS_ITEMS_MIN = 50_000  # a scan of all codes of fewer rows takes 30 us; below, cells have nothing to win
CELL_ROW_COUNT = 256  # on average: eight blocks, so that the padding of the last one stays below 10 %
CELL_COUNT_MAX = 8_192  # of one request's pass over the centroids: 5 us

SURVIVOR_COUNTS = (240, 300, 400, 600)  # kept of the pass over codes for the float32 pass
HEAD_COUNTS = (
    0,
    4_096,
    8_192,
    16_384,
    32_768,
    65_536,
    131_072,
)  # rows of largest norm that every request scans
PROBE_COUNTS = (0, 8, 16, 32, 64, 128, 256, 512, 1_024)  # cells that a request looks into
NEAREST_PROBE_COUNT = 64  # the same for the nearest by cosine: their cells are the ones in that direction
WIDEN_PROBE_COUNT = (
    16  # added for each hidden row beside a shown one: what passes lies deeper than what is best
)
SPARE_COUNT = (
    256  # found rows beyond the survivors before the worst are dropped: each drop costs a pass over both
)

SHOWN_ROWS_MAX = (
    131_072  # that a filter leaves and whose codes are copied side by side: 10 MB, and 0.1 ms for a scan
)
SHOWN_SHARE_MAX = 0.25  # of all rows: where more pass, a wider search is as good, and stops early
SHOWN_ROOM_PART = 8  # of the rows that pass: for those that pass later, until they are copied anew
SHOWN_ROOM_MIN = 64
# Of more rows than these, the ones of largest norm are copied (5 MB), where the norms fall to so little of that of the last
# of the best COUNT: on a million items of norms as real ones, filters of any kind left the exact best 100 among them.
SHOWN_HEAD_ROWS, SHOWN_HEAD_NORM_MAX, SHOWN_HEAD_ROOM = 65_536, 0.35, 4_096
SHOWN_EXACT_ROWS_MAX = 1_024  # so few are scanned in float32: 30 us, and nothing to copy
SHARE_SAMPLE_COUNT = 1_024  # rows looked at to see which share of them is hidden
SHARE_SEARCH_COUNT = 256  # searches that go by one such look

# A filter that leaves more rows than are copied: all codes are scanned until a cheaper plan has shown what it finds.
FILTER_RECALL_COUNT = 100  # exact best that are looked for
FILTER_RECALL_TARGET, FILTER_RECALL_MIN = 0.99, 0.97  # on average, and of the worst query of the sample
FILTER_QUERY_COUNT, FILTER_QUERY_COUNT_MIN = (
    48,
    16,
)  # vectors that this is measured on: about a second for a million rows
FILTER_WIDER = (1, 2, 4)  # times the plan's widths by the share that passes
FILTER_ROWS_SHARE_MAX = 0.6  # of what a scan of all looks at; a plan that saves less is not worth its risk
WHOLE_SURVIVOR_COUNT = 300  # of a scan of all codes: 240 lose one in a thousand more

# What a plan costs, counted in rows scanned (0.6 ns each): timings differ from run to run, these do not.
CELL_ROW_COST = 2  # they lie apart in memory
PROBE_COST = 60
SURVIVOR_COST = 40  # a row of float32 factors from memory, and its place in the order
EXACT_ROW_COST = 12

assert SHOWN_EXACT_ROWS_MAX < SHOWN_ROWS_MAX
assert FILTER_RECALL_COUNT <= COUNT <= WHOLE_SURVIVOR_COUNT
assert min(SURVIVOR_COUNTS) >= COUNT
assert CELL_COUNT_MAX * CELL_ROW_COUNT >= 2_000_000
