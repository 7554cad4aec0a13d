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
