"""Items whose norms are heavy-tailed, flat or equal, in clusters or in none; and users that like some of them."""

from __future__ import annotations

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

NORMS = ("heavy", "flat", "equal")


def make(
    kind: str, item_count: int, cluster_count: int, query_count: int = 64, factor_count: int = 32
) -> Arrays:
    """factors (n, d) by falling norm, their norms (n,), queries (m, d): all float32."""
    random = np.random.default_rng(11)
    spectrum = (1 + np.arange(factor_count)) ** -0.5
    centres = random.normal(size=(max(1, cluster_count), factor_count)) * (cluster_count > 0)
    cluster = random.integers(0, len(centres), item_count)
    rows = (centres[cluster] + random.normal(size=(item_count, factor_count))) * spectrum
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= _norms(kind, item_count, random)[:, None]
    factors = rows.astype(np.float32)
    norms = np.linalg.norm(factors, axis=1).astype(np.float32)
    order = np.argsort(-norms, kind="stable")
    factors, norms = np.ascontiguousarray(factors[order]), norms[order]
    share = norms.astype(np.float64) ** 2
    liked = random.choice(item_count, (query_count, 3), p=share / share.sum())
    # A few liked items and their like: what fold-in makes of a ring.
    queries = factors[liked].sum(axis=1) + 0.1 * random.normal(size=(query_count, factor_count)) * spectrum
    return factors, norms, np.ascontiguousarray(queries, dtype=np.float32)


def _norms(kind: str, count: int, random: np.random.Generator) -> np.ndarray:
    if kind == "heavy":
        return np.minimum(0.08 * np.exp(1.23 * random.normal(size=count)), 3.0)
    return 1 + 0.15 * random.normal(size=count).clip(-3, 3) if kind == "flat" else np.ones(count)
