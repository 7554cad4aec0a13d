"""Profiles of whole histories at once: what merging their events one after the other makes, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles import kernels, limits
from profiles.codec import VERSION


@dataclass(frozen=True)
class Histories:
    """Events of m subjects, each subject's together and by offset.

    Subject i has the rows starts[i] to starts[i + 1] - 1. `ids` tell events apart, `accept_micros` when each was accepted.
    """

    subjects: list[str]
    starts: NDArray[np.int64]  # (m + 1,)
    times: NDArray[np.int64]  # (n,) unix seconds
    signals: NDArray[np.int64]  # (n,)
    keys: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]  # (n,)
    ids: NDArray[np.uint64]  # (n,)
    accept_micros: NDArray[np.int64]  # (n,)


@dataclass(frozen=True)
class Folded:
    """A value for each subject, the offset of the newest event that it counts in, and which events were counted."""

    values: list[bytes]
    applied: NDArray[np.int64]  # (m,)
    is_kept: NDArray[np.bool_]  # (n,)


def fold(histories: Histories, window_s: float, ttl_s: float) -> Folded:
    """An id that comes again within `window_s` counts once; what came before `ttl_s` of silence was forgotten."""
    count = len(histories.subjects)
    lengths = np.diff(histories.starts)
    ring = np.minimum(lengths, limits.RING_EVENTS_MAX) * limits.RING_EVENT_BYTES
    seen = np.where(lengths > limits.RING_EVENTS_MAX, limits.SEEN_BYTES_MAX, 0)
    out = np.zeros(int(np.sum(limits.HEADER_BYTES + ring + seen)), np.uint8)
    ends, is_kept = np.empty(count, np.int64), np.zeros(histories.times.shape[0], np.bool_)
    kernels.fold(
        histories.starts, pack(histories.times, histories.signals, histories.keys), histories.offsets,
        histories.ids, histories.accept_micros, int(window_s * 1e6), int(ttl_s * 1000) << 16, VERSION,
        is_kept, out, ends,
    )  # fmt: skip
    written, bounds = out.tobytes(), [0, *ends.tolist()]
    values = [written[bounds[i] : bounds[i + 1]] for i in range(count)]
    return Folded(values, histories.offsets[histories.starts[1:] - 1], is_kept)


def pack(times: NDArray[np.int64], signals: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Events (n,) as codec.pack_event packs each."""
    mixed = (keys * limits.KEY_MIX) & limits.ITEM_KEY_MAX
    return times.astype(np.uint64) << np.uint64(32) | (signals << 28 | mixed).astype(np.uint64)
