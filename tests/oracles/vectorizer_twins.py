"""Slow, plain twins of the vectorizer's kernels: what they compute, written to be read."""

from __future__ import annotations

import numpy as np


def fold_in(rows, weights, factors, regularization):
    """The dense solve of the weighted least squares, in double precision."""
    kept = [(r, w) for r, w in zip(rows, weights, strict=True) if r >= 0 and w > 0]
    d = factors.shape[1]
    if not kept:
        return np.zeros(d)
    items = factors.astype(np.float64)
    confidence = np.ones(len(items))
    liked = np.zeros(len(items))
    for row, weight in kept:
        confidence[row] += weight
        liked[row] += 1 + weight
    # An item met twice is two events of the loss, not one: confidences add up.
    left = items.T @ (confidence[:, None] * items) + regularization * np.eye(d)
    return np.linalg.solve(left, items.T @ liked)


def event_weights(codes, table, confidence, decay):
    """confidence * table[code] * exp(-decay * position)."""
    newest = len(codes) - 1
    return np.array([confidence * table[c] * np.exp(-decay * (newest - m)) for m, c in enumerate(codes)])


def best(scores, limit, excluded):
    """Row numbers by falling score, ties to the lower row."""
    kept = [row for row in range(len(scores)) if not excluded[row]]
    return sorted(kept, key=lambda row: (-scores[row], row))[:limit]


def accumulate(rows, likings, transitions, transition_weights, neighbours, neighbour_weights, decays):
    """(n, 8) sums of the recent events' lists; decays are fast, slow, long."""
    sums = np.zeros((len(transitions), 8))
    fast, slow, long = decays
    for m, row in enumerate(rows):
        if row < 0:
            continue
        position = len(rows) - 1 - m
        for other, weight in zip(transitions[row], transition_weights[row], strict=True):
            if other >= 0:
                sums[other, 0] += weight if position == 0 else 0
                sums[other, 1] += weight * np.exp(-fast * position)
                sums[other, 2] += weight * np.exp(-slow * position)
        for other, weight in zip(neighbours[row], neighbour_weights[row], strict=True):
            if other >= 0:
                sums[other, 3] += weight if position == 0 else 0
                sums[other, 4] += weight * np.exp(-fast * position)
                sums[other, 5] += weight * np.exp(-slow * position)
                sums[other, 6] += weight * np.exp(-long * position)
                sums[other, 7] += weight * np.exp(-long * position) * likings[m]
    return sums


def unite(personal, sums, popular, barred, quotas, limit):
    """[(row, source bits)]: the quotas' best, then who has more, then the popular; bits 1, 2, 4 and 8."""
    chosen = {}

    def take(rows, bit):
        for row in rows:
            if not barred[row] and (row in chosen or len(chosen) < limit):
                chosen[row] = chosen.get(row, 0) | bit

    def ordered(column, count):
        return [row for row in best(sums[:, column], len(sums), barred) if sums[row, column] > 0][:count]

    personal_quota, transition_quota, similar_quota = quotas
    take(personal[:personal_quota].tolist(), 1)
    take(ordered(2, transition_quota), 2)
    take(ordered(5, similar_quota), 4)
    for rows, bit in (
        (personal[personal_quota:].tolist(), 1),
        (ordered(2, limit), 2),
        (ordered(5, limit), 4),
    ):
        if len(chosen) < limit:
            take(rows, bit)
    for row in popular.tolist():
        if len(chosen) < limit and row not in chosen:
            take([row], 8)
    return list(chosen.items())


def forest(features, tested, borders, leaves, bias):
    """The sum of one leaf a tree, candidate by candidate."""
    scores = []
    for column in features.T:
        total = bias
        for tree in range(len(tested)):
            bits = [column[f] > b for f, b in zip(tested[tree], borders[tree], strict=True)]
            total += float(leaves[tree][sum(1 << level for level, bit in enumerate(bits) if bit)])
        scores.append(total)
    return np.array(scores)


def features(candidates, rows, likings, times, now, vectors, sums, model):
    """(36, k): each feature as its comment in vectorizer/features.py says, in double precision.

    vectors are the user's, the slow and the fast one; sums (n, 8) is what `accumulate` adds up.
    """
    ring = [(len(rows) - 1 - m, int(row), float(likings[m])) for m, row in enumerate(rows)][::-1]
    ring = [event for event in ring if event[1] >= 0]  # newest first
    slow = [np.exp(-0.1 * position) for position, _, _ in ring]
    fast = [np.exp(-0.5 * position) for position, _, _ in ring]
    years = [(w, float(model.released[row])) for w, (_, row, _) in zip(slow, ring, strict=True)]
    years = [(w, year) for w, year in years if year > 0]
    mean_year = sum(w * y for w, y in years) / sum(w for w, _ in years) if years else None
    logs = np.log(model.popularity.astype(np.float64) + 1e-6)
    mean_log = sum(w * logs[row] for w, (_, row, _) in zip(slow, ring, strict=True)) / max(sum(slow), 1e-6)
    idle = np.log1p(max(now - int(times[-1]), 0)) if len(times) else 20.0
    session = sum(now - int(time) <= 1_800 for time in times)
    columns = []
    for row in candidates.tolist():
        slot = {"mean_year": mean_year, "logs": logs, "mean_log": mean_log, "idle": idle, "session": session}
        columns.append(_feature_column(row, ring, slow, fast, now, vectors, sums[row], model, **slot))
    out = np.array(columns).T
    behind = [out[i] - out[i].max() for i in (0, 1, 2)]
    shares = [out[i] / max(out[i].max(), 1e-9) for i in (5, 8)]
    return np.vstack([out, *behind, *shares])


def _feature_column(
    row, ring, slow, fast, now, vectors, sums, model, mean_year, logs, mean_log, idle, session
):
    items = model.factors.astype(np.float64)
    personal, personal_slow, personal_fast = (float(items[row] @ v.astype(np.float64)) for v in vectors)
    cosines = [_cosine(items[row], items[other]) for _, other, _ in ring[:5]]
    week, month = (_bucket_log(row, now, width, model) for width in (1, 4))
    year = float(model.released[row])
    gap = year - mean_year if year > 0 and mean_year else 0.0
    likings = [liking for _, _, liking in ring]
    return [
        personal,
        personal_slow,
        _cosine(items[row], vectors[0].astype(np.float64)),
        *sums.tolist(),
        cosines[0] if cosines else 0.0,
        max([0.0, *cosines]),
        logs[row],
        week,
        month,
        month - logs[row],
        np.log1p(max(now - int(model.first_times[row]), 0) / 86_400),
        float(model.liking[row]),
        year,
        gap,
        abs(gap),
        _category_share(row, ring, slow, sum(slow), model),
        _category_share(row, ring, fast, sum(fast), model),
        _category_share(row, ring, likings, len(ring), model),
        logs[row] - mean_log,
        len(ring),
        idle,
        session,
        sum(likings) / max(len(ring), 1),
        personal_fast,
    ]


def _cosine(left, right):
    return float(left @ right) / (max(np.linalg.norm(left), 1e-9) * max(np.linalg.norm(right), 1e-9))


def _bucket_log(row, now, width, model):
    start_s, width_s = int(model.params["bucket_start_s"]), int(model.params["bucket_width_s"])
    end = min(max(now - start_s, 0) // width_s, len(model.bucket_totals) - 1)
    begin = max(end - width, 0)
    count = float(model.bucket_counts[row, end]) - float(model.bucket_counts[row, begin]) + 1
    total = float(model.bucket_totals[end]) - float(model.bucket_totals[begin]) + len(model.item_keys)
    return np.log(count / total)


def _category_share(row, ring, weights, total, model):
    bits = [bit for bit in range(64) if int(model.categories[row]) >> bit & 1]
    found = sum(
        weight
        for bit in bits
        for weight, (_, other, _) in zip(weights, ring, strict=True)
        if int(model.categories[other]) >> bit & 1
    )
    return found / (max(total, 1e-6) * max(len(bits), 1))
