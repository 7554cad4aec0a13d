"""Loops over bits by item key: a word holds 64 keys, the lowest bit the first of them."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Keys = NDArray[np.int32]
Mask = NDArray[np.bool_]

WORD_BITS = 64


@njit(cache=True, nogil=True)
def read_bits(words: Words, keys: Keys, out: Mask) -> None:
    """out[i] = the bit of keys[i], false for keys that words (w,) do not hold; keys (m,) int32, out (m,) bool."""
    for i in range(keys.shape[0]):
        key = np.int64(keys[i])
        word = key >> 6
        out[i] = 0 <= word < words.shape[0] and (words[word] >> np.uint64(key & 63)) & np.uint64(1) != 0


@njit(cache=True, nogil=True)
def write_bits(words: Words, keys: Keys, bits: Mask) -> int:
    """Sets the bits of distinct keys (m,) int32, all in words (w,), to bits (m,) bool; returns how many more are set."""
    more = 0
    for i in range(keys.shape[0]):
        key = np.int64(keys[i])
        bit = np.uint64(1) << np.uint64(key & 63)
        before = words[key >> 6] & bit != 0
        if bits[i] and not before:
            words[key >> 6] |= bit
            more += 1
        elif before and not bits[i]:
            words[key >> 6] &= ~bit
            more -= 1
    return more


def packed(mask: Mask) -> Words:
    """(ceil(size / 64),) uint64 of mask (size,) bool."""
    bits = np.packbits(mask, bitorder="little")
    words = np.zeros(-(-len(mask) // WORD_BITS), dtype="<u8")
    words.view(np.uint8)[: len(bits)] = bits
    return words.astype(np.uint64, copy=False)


def unpacked(words: Words, size: int) -> Mask:
    """(size,) bool of words that hold at least `size` bits."""
    return np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=size, bitorder="little").view(
        np.bool_
    )
