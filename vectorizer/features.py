"""What the ranker knows of a candidate: one row for each feature, one column for each candidate.

Every feature is a function of the ring, the model's arrays and the time of the request, and of nothing else: training
computes the same features as of each training event by calling the same kernel with a model fitted before it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vectorizer.lanes import inner_eight, lowest_bit, prefetch
from vectorizer.limits import LANE_COUNT, SESSION_GAP_S
from vectorizer.model import BUCKET_EDGE_COUNT, Float32, Int32
from vectorizer.sources import ACCUMULATOR_COUNT, inner_product
from vectorizer.table import find

FEATURES = (
    "personal",  # inner product with the user's vector
    "personal_slow",  # inner product with the vector of the whole ring, hardly decayed
    "personal_cosine",  # cosine with the user's vector
    "transition_last",  # weight in the list of what follows the newest item
    "transition_fast",
    "transition_slow",
    "similar_last",  # weight in the list of items similar to the newest item
    "similar_fast",
    "similar_slow",
    "similar_long",
    "similar_liked",  # as similar_long, each event times its liking, -1..1
    "cosine_last",  # factor cosine with the newest item
    "cosine_recent",  # largest factor cosine with one of the newest items
    "popularity",  # log of the share of all events
    "popularity_week",  # log of the share in the newest whole bucket before now
    "popularity_month",  # log of the share in the newest four whole buckets before now
    "popularity_trend",  # month against always
    "age",  # log of days since the item's first event
    "liking",  # the item's mean liking
    "released",  # years
    "released_gap",  # years after the mean of the recent items
    "released_distance",  # years away from the mean of the recent items
    "category_slow",  # share of the recent items' categories
    "category_fast",
    "category_liked",
    "popularity_gap",  # popularity against the mean of the recent items
    "ring_count",  # known events in the ring
    "idle",  # log of seconds since the newest event
    "session_count",  # events within the visit
    "user_liking",  # mean liking of the ring
    "personal_fast",  # inner product with the vector of the newest few events
    # Distance to the best of the request's candidates: the same in a small model of last month and a large one of now.
    "personal_behind",
    "personal_slow_behind",
    "personal_cosine_behind",
    "transition_slow_share",  # of the best candidate's
    "similar_slow_share",
)
FEATURE_COUNT = len(FEATURES)

CATEGORY_COUNT_MAX = 64  # bits of the category mask
RECENT_ITEM_COUNT = 5  # newest items that cosine_recent looks at
WEEK_BUCKET_COUNT, MONTH_BUCKET_COUNT = 1, 4
assert MONTH_BUCKET_COUNT + 2 <= BUCKET_EDGE_COUNT  # see ModelArrays.trimmed
POPULARITY_FLOOR = 1e-6  # share of an item without events, so that its log is finite
BUCKET_PRIOR_COUNT = 1.0  # events added to each item of a bucket, so that an empty one is no news
DAY_S = 86_400.0
PREFETCH_COUNT = 8  # candidates ahead whose lines are asked for: of a large catalogue no cache holds them
HALF_ROOT_BITS = 0x3F3504F3  # of the float32 sqrt(1/2): mantissas from there to sqrt(2)
LOG_2 = 0.6931471805599453
QUERY_COUNT = 8  # rows that each candidate's factors are multiplied with: three vectors and the newest items
assert QUERY_COUNT == 3 + RECENT_ITEM_COUNT


@njit(cache=True, nogil=True)
def bucket_of(now: int, start_s: int, width_s: int, bucket_count: int) -> int:
    """How many whole buckets end at or before `now`, 0..bucket_count."""
    if now <= start_s:
        return 0
    return min((now - start_s) // width_s, bucket_count)


@njit(cache=True, nogil=True)
def _bucket_share(counts: Float32, totals: Float32, end: int, width: int, item_count: int) -> float:
    begin = max(end - width, 0)
    count = counts[end] - counts[begin] + BUCKET_PRIOR_COUNT
    total = totals[end] - totals[begin] + BUCKET_PRIOR_COUNT * item_count
    return float(count / total)


@njit(cache=True, nogil=True)
def take_logs(values: Float32) -> None:
    """Replaces positive normal float32 numbers (k,) by their natural logarithms, within 2e-7 of the larger of 1 and the result.

    log(m * 2**e) = e log 2 + 2 atanh(s), s = (m - 1) / (m + 1) with m around 1 and so |s| < 0.172: five terms of
    atanh's series reach float32's last bit, and a loop without calls goes by whole registers.
    """
    bits = values.view(np.int32)
    for i in range(values.shape[0]):
        exponent = (bits[i] - np.int32(HALF_ROOT_BITS)) >> np.int32(23)
        mantissa = np.int32(bits[i] - (exponent << np.int32(23))).view(np.float32)
        s = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))
        q = s * s
        series = np.float32(1 / 7) + q * np.float32(1 / 9)
        series = np.float32(1 / 3) + q * (np.float32(1 / 5) + q * series)
        values[i] = np.float32(exponent) * np.float32(LOG_2) + (s + s * (q * series)) * np.float32(2.0)


@njit(cache=True, nogil=True)
def _fill_relative(out: Float32, count: int) -> None:
    for feature in range(3):
        best = np.float32(-np.inf)
        for c in range(count):
            best = max(best, out[feature, c])
        for c in range(count):
            out[31 + feature, c] = out[feature, c] - best
    for feature in range(2):
        source = 5 if feature == 0 else 8
        best = np.float32(1e-9)
        for c in range(count):
            best = max(best, out[source, c])
        for c in range(count):
            out[34 + feature, c] = out[source, c] / best


@njit(cache=True, nogil=True)
def _ask_for(
    row: int,
    factors: Float32,
    factor_norms: Float32,
    popularity: Float32,
    bucket_counts: Float32,
    first_times: np.ndarray,
    item_likings: Float32,
    released: Float32,
    categories: np.ndarray,
) -> None:
    at = np.uint64(row)
    d, edges = np.uint64(factors.shape[1]), np.uint64(bucket_counts.shape[1])
    for i in range(np.uint64(0), d, np.uint64(LANE_COUNT)):
        prefetch(factors, at * d + i)
    prefetch(factor_norms, at)
    prefetch(popularity, at)
    prefetch(bucket_counts, at * edges)
    prefetch(bucket_counts, at * edges + edges - np.uint64(1))
    prefetch(first_times, at)
    prefetch(item_likings, at)
    prefetch(released, at)
    prefetch(categories, at)


@njit(cache=True, nogil=True)
def fill_features(  # noqa: C901, PLR0915  # a kernel: one statement a feature
    candidates: Int32,
    rows: Int32,
    likings: Float32,
    times: np.ndarray,
    now: int,
    vector: Float32,
    slow_vector: Float32,
    fast_vector: Float32,
    slots: Int32,
    state: Int32,
    sums: Float32,
    factors: Float32,
    factor_norms: Float32,
    popularity: Float32,
    bucket_counts: Float32,
    bucket_totals: Float32,
    bucket_start_s: int,
    bucket_width_s: int,
    first_times: np.ndarray,
    item_likings: Float32,
    released: Float32,
    categories: np.ndarray,
    queries: Float32,
    products: Float32,
    padded: Float32,
    out: Float32,
) -> None:
    """Writes FEATURES of each candidate to out[:, :k].

    candidates (k,) int32 known rows; rows (m,) int32 oldest first, -1 skipped; likings (m,) float32; times (m,)
    uint32; now unix seconds; vectors (d,) float32; slots, state and sums as `accumulate` leaves them; the other arrays as in
    ModelArrays; queries (8 * p,), products (8,) and padded (p,) float32 are overwritten, p is d rounded up to a
    multiple of LANE_COUNT; out (F, k) float32.
    """
    item_count = popularity.shape[0]
    slow_share = np.zeros(CATEGORY_COUNT_MAX, dtype=np.float32)
    fast_share = np.zeros(CATEGORY_COUNT_MAX, dtype=np.float32)
    liked_share = np.zeros(CATEGORY_COUNT_MAX, dtype=np.float32)
    recent = np.full(RECENT_ITEM_COUNT, -1, dtype=np.int32)
    slow_total = fast_total = long_total = 0.0
    released_sum = released_weight = popularity_sum = liking_sum = 0.0
    known = session = 0
    count = rows.shape[0]
    for m in range(count - 1, -1, -1):
        row = rows[m]
        if now - int(times[m]) <= SESSION_GAP_S:
            session += 1
        if row < 0:
            continue
        if known < RECENT_ITEM_COUNT:
            recent[known] = row
        known += 1
        position = count - 1 - m
        slow = np.exp(-0.1 * position)
        fast = np.exp(-0.5 * position)
        slow_total += slow
        fast_total += fast
        long_total += 1.0
        liking_sum += likings[m]
        popularity_sum += slow * np.log(popularity[row] + POPULARITY_FLOOR)
        if released[row] > 0:
            released_sum += slow * released[row]
            released_weight += slow
        mask = categories[row]
        while mask != np.uint64(0):
            bit = lowest_bit(mask)
            slow_share[bit] += slow
            fast_share[bit] += fast
            liked_share[bit] += likings[m]
            mask &= mask - np.uint64(1)
    slow_total = max(slow_total, 1e-6)
    fast_total = max(fast_total, 1e-6)
    long_total = max(long_total, 1.0)
    popularity_mean = popularity_sum / slow_total
    released_mean = released_sum / released_weight if released_weight > 0 else 0.0
    idle = np.log1p(float(max(now - int(times[count - 1]), 0))) if count > 0 else 20.0
    vector_norm = max(float(np.sqrt(float(inner_product(vector, vector)))), 1e-9)
    bucket = bucket_of(now, bucket_start_s, bucket_width_s, bucket_totals.shape[0] - 1)

    count = candidates.shape[0]
    d, p = factors.shape[1], padded.shape[0]
    queries[:] = np.float32(0.0)
    padded[:] = np.float32(0.0)
    for i in range(d):
        queries[i], queries[p + i], queries[2 * p + i] = vector[i], slow_vector[i], fast_vector[i]
    for r in range(min(known, RECENT_ITEM_COUNT)):
        scale = np.float32(1.0 / max(float(factor_norms[recent[r]]), 1e-9))
        for i in range(d):
            queries[(3 + r) * p + i] = factors[recent[r], i] * scale
    for c in range(min(count, PREFETCH_COUNT)):
        _ask_for(
            candidates[c],
            factors,
            factor_norms,
            popularity,
            bucket_counts,
            first_times,
            item_likings,
            released,
            categories,
        )

    for c in range(count):
        row = candidates[c]
        if c + PREFETCH_COUNT < count:
            _ask_for(
                candidates[c + PREFETCH_COUNT], factors, factor_norms, popularity, bucket_counts, first_times,
                item_likings, released, categories,
            )  # fmt: skip
        if d == p:
            inner_eight(queries, factors, np.uint64(row) * np.uint64(d), np.uint64(p), products)
        else:
            for i in range(d):
                padded[i] = factors[row, i]
            inner_eight(queries, padded, np.uint64(0), np.uint64(p), products)
        norm = max(float(factor_norms[row]), 1e-9)
        out[0, c] = products[0]
        out[1, c] = products[1]
        out[2, c] = products[0] / (vector_norm * norm)
        place = find(slots, state, row)
        for a in range(ACCUMULATOR_COUNT):
            out[3 + a, c] = sums[place, a] if place >= 0 else np.float32(0.0)
        best = np.float32(0.0)
        for r in range(RECENT_ITEM_COUNT):
            best = max(best, products[3 + r])  # of an item that is not there: 0
        out[11, c] = products[3] / norm
        out[12, c] = best / norm
        counts = bucket_counts[row]
        out[13, c] = popularity[row] + POPULARITY_FLOOR
        out[14, c] = _bucket_share(counts, bucket_totals, bucket, WEEK_BUCKET_COUNT, item_count)
        out[15, c] = _bucket_share(counts, bucket_totals, bucket, MONTH_BUCKET_COUNT, item_count)
        out[17, c] = 1.0 + float(max(now - int(first_times[row]), 0)) / DAY_S
        out[18, c] = item_likings[row]
        gap = released[row] - released_mean if released[row] > 0 and released_mean > 0 else 0.0
        out[19, c] = released[row]
        out[20, c] = gap
        out[21, c] = abs(gap)
        mask = categories[row]
        slow_sum = fast_sum = liked_sum = 0.0
        bits = 0
        while mask != np.uint64(0):
            bit = lowest_bit(mask)
            slow_sum += slow_share[bit]
            fast_sum += fast_share[bit]
            liked_sum += liked_share[bit]
            bits += 1
            mask &= mask - np.uint64(1)
        bits = max(bits, 1)
        out[22, c] = slow_sum / (slow_total * bits)
        out[23, c] = fast_sum / (fast_total * bits)
        out[24, c] = liked_sum / (long_total * bits)
        out[26, c] = known
        out[27, c] = idle
        out[28, c] = session
        out[29, c] = liking_sum / long_total
        out[30, c] = products[2]
    for feature in (13, 14, 15, 17):
        take_logs(out[feature])
    for c in range(count):
        out[16, c] = out[15, c] - out[13, c]
        out[25, c] = out[13, c] - popularity_mean
    _fill_relative(out, candidates.shape[0])
