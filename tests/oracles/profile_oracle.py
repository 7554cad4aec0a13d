"""The codec of profiles/kernels.py and codec.py, slow and plain: strings of bits, sets and sorting."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

RING_EVENTS_MAX = 64
SEEN_BYTES_MAX = 344
KEY_MASK = (1 << 28) - 1


def key_of(event: int) -> int:
    """The item key that was multiplied by 0x9E3779B, modulo 2^28."""
    return event * pow(0x9E3779B, -1, 1 << 28) & KEY_MASK


def rice_bits(keys_descending: list[int], k: int) -> str:
    """The seen set as a string of bits, first bit first: 32 bits of the largest key, then the gaps."""
    bits = format(keys_descending[0], "032b")[::-1]
    for above, below in pairwise(keys_descending):
        gap = above - below - 1
        bits += "1" * (gap >> k) + "0" + "".join(str((gap >> place) & 1) for place in range(k))
    return bits


def rice_bytes(keys_descending: list[int], k: int) -> bytes:
    """The same as bytes, filled from the least significant bit."""
    bits = rice_bits(keys_descending, k)
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[i : i + 8][::-1], 2) for i in range(0, len(padded), 8))


def largest_that_fit(keys: Iterable[int], bytes_max: int = SEEN_BYTES_MAX) -> list[int]:
    """The longest run of the largest keys whose best coding fits; descending."""
    ordered = sorted(set(keys), reverse=True)
    fitting = 0
    for k in range(28):
        bits = 32
        for count in range(1, len(ordered) + 1):
            if count > 1:
                bits += ((ordered[count - 2] - ordered[count - 1] - 1) >> k) + 1 + k
            if bits > bytes_max * 8:
                break
            fitting = max(fitting, count)
    return ordered[:fitting]


def merged(events: Iterable[int]) -> tuple[list[int], list[int]]:
    """The ring (ascending) and the seen keys (ascending, those of the ring left out) of all packed events together."""
    ordered = sorted(set(events))
    ring, left = ordered[-RING_EVENTS_MAX:], ordered[:-RING_EVENTS_MAX]
    kept = largest_that_fit(key_of(event) for event in left)
    return ring, sorted(set(kept) - {key_of(event) for event in ring})
