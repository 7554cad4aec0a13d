"""The search, as numba compiles it: plain arrays in, plain arrays out, nothing allocated.

A found row is one uint64, see vectorizer/keys.py: a larger key is a better row.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retrieval.lanes import BLOCK_ROW_COUNT, CODE_ZERO, GROUP_DIMENSION_COUNT, block_scores
from vectorizer.key_set import slot_of
from vectorizer.keys import Keys, keep_largest, key_of, offer, row_of, score_of, sort_falling, write_best
from vectorizer.lanes import lowest_bit
from vectorizer.sources import inner_product

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Mask = NDArray[np.uint8]

CODE_MAX = 127
SAMPLE_STEP = 8  # one block in so many is scored beforehand
SAMPLE_MARGIN = 1.3  # more of the sample are kept than its share, since it differs from the whole
SAMPLE_SPARE = 8  # and so many more, for small samples


@njit(cache=True, nogil=True)
def _passes(row: int, hidden: Mask, table: Int32) -> bool:
    if hidden.shape[0] > 0 and hidden[row] != 0:
        return False
    return bool(table.shape[0] == 0 or table[slot_of(row, table)] == 0)


@njit(cache=True, nogil=True)
def quantise(vector: Float32, query: Int32) -> tuple[np.float32, np.int32]:
    """Writes the vector's codes to query (groups,) int32, four int8 each; returns their scale and their bias.

    A code times the scale is the coordinate; the bias is what CODE_ZERO adds to each sum over codes.
    """
    largest = np.float32(0.0)
    for i in range(vector.shape[0]):
        largest = max(largest, abs(vector[i]))
    scale = largest / np.float32(CODE_MAX) if largest > 0 else np.float32(1.0)
    total = 0
    for group in range(query.shape[0]):
        word = 0
        for i in range(GROUP_DIMENSION_COUNT):
            at = group * GROUP_DIMENSION_COUNT + i
            code = int(np.rint(vector[at] / scale)) if at < vector.shape[0] else 0
            total += code
            word |= (code & 255) << (8 * i)
        query[group] = np.int32(np.uint32(word))
    return scale, np.int32(CODE_ZERO * total)


@njit(cache=True, nogil=True)
def scan_blocks(
    codes: Mask,
    scales: Float32,
    rows: Int32,
    norms: Float32,
    first: int,
    last: int,
    query: Int32,
    bias: np.int32,
    reach: np.float32,
    hidden: Mask,
    table: Int32,
    keys: Keys,
    size: int,
    count: int,
    threshold: np.float32,
    scores: Float32,
    step: int,
) -> tuple[int, np.float32, int]:
    """Offers the rows of the blocks [first, last), every `step`-th, that pass to keys; returns its new size, the threshold, and blocks seen.

    It stops at the first block whose norm times `reach` is not above the threshold: the norms fall from there on.
    keys (more than count,) as in vectorizer/keys.py::offer.
    """
    width = query.shape[0] * GROUP_DIMENSION_COUNT * BLOCK_ROW_COUNT
    for block in range(first, last, step):
        if norms[block] * reach <= threshold:
            return size, threshold, block - first
        at = block * BLOCK_ROW_COUNT
        found = block_scores(codes, block * width, query, scales, at, bias, threshold, scores)
        while found != 0:
            lane = np.int64(lowest_bit(np.uint64(found)))
            found = np.uint32(found & (found - np.uint32(1)))
            row = rows[at + lane]
            if row < 0 or scores[lane] <= threshold or not _passes(row, hidden, table):
                continue
            size, threshold = offer(scores[lane], row, keys, size, count, threshold)
    return size, threshold, last - first


@njit(cache=True, nogil=True)
def put_lanes(
    factors: Float32,
    norms: Float32,
    new_rows: Int32,
    place: int,
    step: int,
    codes: Mask,
    scales: Float32,
    unit_scales: Float32,
    rows: Int32,
    width: int,
) -> None:
    """Puts the codes of new_rows (m,) int32 at place, place + step and so on.

    As layout.py::encode does it. factors (n, d), norms (n,) float32; codes (b * width,) uint8, a block's `width` bytes
    after the other's; scales, unit_scales, rows (b * BLOCK_ROW_COUNT,).
    """
    for row in new_rows:
        largest = np.float32(0.0)
        for i in range(factors.shape[1]):
            largest = max(largest, abs(factors[row, i]))
        scale = largest / np.float32(CODE_MAX)
        divisor = scale if scale > 0 else np.float32(1.0)
        start = place // BLOCK_ROW_COUNT * width + place % BLOCK_ROW_COUNT * GROUP_DIMENSION_COUNT
        for i in range(width // BLOCK_ROW_COUNT):
            code = int(np.rint(factors[row, i] / divisor)) if i < factors.shape[1] else 0
            group = i // GROUP_DIMENSION_COUNT * BLOCK_ROW_COUNT * GROUP_DIMENSION_COUNT
            codes[start + group + i % GROUP_DIMENSION_COUNT] = np.uint8(code + CODE_ZERO)
        scales[place], rows[place] = scale, row
        unit_scales[place] = scale / norms[row] if norms[row] > 0 else np.float32(0.0)
        place += step


@njit(cache=True, nogil=True)
def search_blocks(
    query: Int32,
    bias: np.int32,
    reach: np.float32,
    codes: Mask,
    scales: Float32,
    rows: Int32,
    norms: Float32,
    starts: Int32,
    head_blocks: int,
    cell_codes: Mask,
    cell_scales: Float32,
    cell_rows: Int32,
    cell_norms: Float32,
    probe_count: int,
    cell_keys: Keys,
    hidden: Mask,
    table: Int32,
    keys: Keys,
    count: int,
    spare: Keys,
    scores: Float32,
    sampled: bool,
) -> tuple[int, int]:
    """The best rows by codes, unordered in keys; returns how many there are, and how many rows were scanned.

    First the head: the first `head_blocks` blocks, norms falling. Then the `probe_count` cells whose centroids are
    nearest to the query, best first (cell_keys has room for more than probe_count); cell c is the blocks [starts[c], starts[c + 1]), norms falling in each. With `sampled` it may find fewer
    than it could: where too few are found, ask again without.
    """
    lowest = np.float32(-np.inf)
    found = 0
    if probe_count > 0:
        found, _, _ = scan_blocks(
            cell_codes, cell_scales, cell_rows, cell_norms, 0, cell_norms.shape[0], query, bias, np.float32(np.inf),
            hidden[:0], table[:0], cell_keys, 0, probe_count, lowest, scores, 1,
        )  # fmt: skip
        if found > probe_count:
            keep_largest(cell_keys, found, probe_count)
            found = probe_count
        sort_falling(cell_keys, found, spare)
    size, threshold, seen = 0, lowest, 0
    if sampled and head_blocks > 0:
        # Without it, most of the time goes to rows that later ones push out: one block in SAMPLE_STEP tells beforehand,
        # within a margin, which score the last survivor will have. What the head promises, head and cells keep.
        wanted = min(count, int(count * SAMPLE_MARGIN / SAMPLE_STEP) + SAMPLE_SPARE)
        room = keys[: min(keys.shape[0], 3 * wanted)]
        size, threshold, _ = scan_blocks(
            codes, scales, rows, norms, 0, head_blocks, query, bias, reach, hidden, table, room, 0, wanted, lowest,
            scores, SAMPLE_STEP,
        )  # fmt: skip
        if size >= wanted:
            keep_largest(room, size, wanted)
            threshold = score_of(room[wanted - 1])
        else:
            threshold = lowest
        size = 0
    size, threshold, seen = scan_blocks(
        codes, scales, rows, norms, 0, head_blocks, query, bias, reach, hidden, table, keys, 0, count, threshold, scores, 1
    )  # fmt: skip
    for i in range(found):
        cell = row_of(cell_keys[i])
        size, threshold, blocks = scan_blocks(
            codes, scales, rows, norms, starts[cell], starts[cell + 1], query, bias, reach,
            hidden, table, keys, size, count, threshold, scores, 1,
        )  # fmt: skip
        seen += blocks
    if size > count:
        keep_largest(keys, size, count)
        size = count
    return size, seen * BLOCK_ROW_COUNT


@njit(cache=True, nogil=True)
def rescore(
    vector: Float32,
    factors: Float32,
    weights: Float32,
    keys: Keys,
    size: int,
    count: int,
    spare: Keys,
    best: Int32,
) -> int:
    """Scores the rows of keys[:size] by float32 inner product and writes the `count` best of them, best first.

    weights (n,) float32 divides each score, an empty one leaves it as it is; best (count or more,) int32.
    """
    for i in range(size):
        row = row_of(keys[i])
        score = inner_product(vector, factors[row])
        if weights.shape[0] > 0:
            score = score / max(weights[row], np.float32(1e-30))
        keys[i] = key_of(score, row)
    return write_best(keys, size, spare, best[:count])


@njit(cache=True, nogil=True)
def scan_rows(
    vector: Float32,
    factors: Float32,
    norms: Float32,
    weights: Float32,
    shown: Int32,
    hidden: Mask,
    table: Int32,
    keys: Keys,
    count: int,
) -> int:
    """Offers all rows, or those in `shown` (s,) int32 if there are any, by float32 inner product; returns how many it kept.

    norms (n,) fall, and the scan of all rows stops where none can be better any more (Cauchy-Schwarz); empty ones say
    that rows lie in any order. weights as in `rescore`: with them it does not stop.
    """
    reach = np.float32(np.sqrt(inner_product(vector, vector))) * np.float32(1.0001)  # rounding of sums
    threshold, size = np.float32(-np.inf), 0
    bounded = shown.shape[0] == 0 and weights.shape[0] == 0 and norms.shape[0] > 0
    total = shown.shape[0] if shown.shape[0] > 0 else factors.shape[0]
    for i in range(total):
        row = shown[i] if shown.shape[0] > 0 else i
        if bounded and norms[row] * reach < threshold:
            break
        score = inner_product(vector, factors[row])
        if weights.shape[0] > 0:
            score = score / max(weights[row], np.float32(1e-30))
        if score < threshold or not _passes(row, hidden, table):
            continue
        size, threshold = offer(score, row, keys, size, count, threshold)
    return size
