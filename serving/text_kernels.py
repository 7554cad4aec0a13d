# mypy: disable-error-code="assignment, return-value, no-any-return, arg-type"
# numba has its own integers: np.int64 is an int there, and to mypy it is none.
"""Loops over a table of texts (serving/texts.py): find, put, read, compare; without the GIL, nothing allocated.

A table is `data` (b,) uint8, utf-8; `starts` and `lengths` (n,) unsigned by number, start 0 where there is no text (byte 0 of
data is nobody's); `slots` (power of two,) int32, a number plus one in each that is taken: open addressing, linear probing.
Texts come in, and go out, as utf-8 with one NUL between two: PostgreSQL holds no text with a NUL in it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, Fowler, Noll, Vo
ASCII_END, LETTER_COUNT = 128, 26


@njit(cache=True, nogil=True, inline="always")
def text_hash(data: np.ndarray, start: int, length: int) -> int:
    """FNV-1a of data[start : start + length], its high half folded into its low one: 0 <= hash < 2**32."""
    value = FNV_OFFSET
    for i in range(start, start + length):
        value = (value ^ np.uint64(data[i])) * FNV_PRIME
    return np.int64((value ^ (value >> np.uint64(32))) & np.uint64(0xFFFFFFFF))


@njit(cache=True, nogil=True, inline="always")
def find_slot(
    texts: np.ndarray,
    start: int,
    length: int,
    data: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    slots: np.ndarray,
) -> int:
    """The slot of texts[start : start + length], or the free one where it would be."""
    last = slots.shape[0] - 1
    slot = text_hash(texts, start, length) & last
    while slots[slot] != 0:
        number = slots[slot] - 1
        if np.int64(lengths[number]) == length and starts[number] != 0:
            first = np.int64(starts[number])
            same = True
            for i in range(length):
                if data[first + i] != texts[start + i]:
                    same = False
                    break
            if same:
                return slot
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def find_texts(
    texts: np.ndarray,
    data: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    slots: np.ndarray,
    numbers: np.ndarray,
) -> None:
    """Writes the number of each of the texts (b,) uint8 to numbers (m,) int32, -1 for none."""
    # What is looked up lies anywhere: each pass asks memory for what the next one needs of all texts, so that they wait together.
    count, last = numbers.shape[0], slots.shape[0] - 1
    begins, ends = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    homes = np.empty(count, dtype=np.int64)
    at = 0
    for i in range(count):
        begins[i] = at
        while at < texts.shape[0] and texts[at] != 0:
            at += 1
        ends[i] = at
        homes[i] = text_hash(texts, begins[i], at - begins[i]) & last
        at += 1
    for i in range(count):
        numbers[i] = slots[homes[i]] - 1
    for i in range(count):
        homes[i] = starts[numbers[i]] + lengths[numbers[i]] if numbers[i] >= 0 else 0
    for i in range(count):
        homes[i] = data[homes[i] - 1] if homes[i] > 0 else 0
    for i in range(count):
        length = ends[i] - begins[i]
        numbers[i] = slots[find_slot(texts, begins[i], length, data, starts, lengths, slots)] - 1


@njit(cache=True, nogil=True)
def put_texts(
    texts: np.ndarray,
    numbers: np.ndarray,
    next_number: int,
    data: np.ndarray,
    used: int,
    starts: np.ndarray,
    lengths: np.ndarray,
    slots: np.ndarray,
) -> tuple[int, int, int]:
    """Gives each of the texts (b,) uint8 its number (m,) int32, where -1 asks for one: that which it has, or the next.

    Returns the next number, the bytes of data that are used, and how many slots were taken. The caller has made room:
    b bytes in data, m more numbers, m free slots.
    """
    at = taken = 0
    for i in range(numbers.shape[0]):
        start = at
        while at < texts.shape[0] and texts[at] != 0:
            at += 1
        length = at - start
        slot = find_slot(texts, start, length, data, starts, lengths, slots)
        at += 1
        before = slots[slot] - 1
        number = np.int64(numbers[i])
        if number < 0:
            number = next_number if before < 0 else np.int64(before)
            numbers[i] = number
        next_number = max(next_number, number + 1)
        if before == number:
            continue
        if before < 0:
            taken += 1
            for j in range(length):
                data[used + j] = texts[start + j]
            starts[number] = used
            used += length
        else:
            starts[number] = starts[before]  # the same text under another number: it moves
            starts[before] = lengths[before] = 0
        lengths[number] = length
        slots[slot] = number + 1
    return next_number, used, taken


@njit(cache=True, nogil=True)
def fill_slots(
    data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, size: int, slots: np.ndarray
) -> int:
    """Puts the first `size` numbers into slots, all zero before, and returns how many have a text."""
    last = slots.shape[0] - 1
    taken = 0
    for number in range(size):
        if starts[number] == 0:
            continue
        slot = text_hash(data, np.int64(starts[number]), np.int64(lengths[number])) & last
        while slots[slot] != 0:
            slot = (slot + 1) & last
        slots[slot] = number + 1
        taken += 1
    return taken


@njit(cache=True, nogil=True)
def read_texts(
    numbers: np.ndarray, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, texts: np.ndarray
) -> int:
    """Writes the texts of numbers (m,), a NUL after each, to texts (b,) uint8; returns the bytes that this takes.

    Where that is more than b, what is in texts is not whole: call again with more room.
    """
    at = 0
    for i in range(numbers.shape[0]):
        number = numbers[i]
        length = np.int64(lengths[number])
        if at + length + 1 <= texts.shape[0]:
            start = np.int64(starts[number])
            for j in range(length):
                texts[at + j] = data[start + j]
            texts[at + length] = 0
        at += length + 1
    return at


@njit(cache=True, nogil=True)
def compare_texts(
    wanted: np.ndarray,
    data: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    size: int,
    signs: np.ndarray,
) -> None:
    """signs (size,) int8: -1, 0, 1 as the text comes before, is, or comes after wanted (w,) uint8.

    By bytes, which for utf-8 is the order of the characters' numbers, as Python has it.
    """
    for number in range(size):
        start, length = np.int64(starts[number]), np.int64(lengths[number])
        sign = np.int64(0)
        for i in range(min(length, wanted.shape[0])):
            if data[start + i] != wanted[i]:
                sign = -1 if data[start + i] < wanted[i] else 1
                break
        if sign == 0:
            sign = np.int64(length > wanted.shape[0]) - np.int64(length < wanted.shape[0])
        signs[number] = sign


@njit(cache=True, nogil=True)
def search_texts(
    part: np.ndarray,
    data: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    size: int,
    verdicts: np.ndarray,
) -> None:
    """verdicts (size,) uint8: 1 where the text holds part (p,) uint8, 0 where not, 2 where that takes more than ASCII.

    part is casefolded, ASCII alone; so are texts whose verdict is 0 or 1, and A to Z in them count as a to z.
    """
    count = part.shape[0]
    for number in range(size):
        start, length = np.int64(starts[number]), np.int64(lengths[number])
        verdicts[number] = 0
        for i in range(start, start + length):
            if data[i] >= ASCII_END:
                verdicts[number] = 2
                break
        if verdicts[number] == 2:
            continue
        for first in range(start, start + length - count + 1):
            at = 0
            while at < count:
                byte = np.int64(data[first + at])
                if 65 <= byte < 65 + LETTER_COUNT:
                    byte += 32
                if byte != part[at]:
                    break
                at += 1
            if at == count:
                verdicts[number] = 1
                break


@njit(cache=True, nogil=True)
def look_up(verdicts: np.ndarray, codes: np.ndarray, out: np.ndarray) -> None:
    """out[i] = verdicts[codes[i]]: verdicts (w,) bool, codes (n,) unsigned or int32, out (n,) bool; false beyond w.

    A code beyond w is of a word that came while a thread was at it: that item is looked at again.
    """
    for i in range(codes.shape[0]):
        out[i] = codes[i] < verdicts.shape[0] and verdicts[codes[i]]


@njit(cache=True, nogil=True)
def pack_runs(starts: np.ndarray, counts: np.ndarray, pool: np.ndarray, packed: np.ndarray) -> int:
    """Moves each key's run of pool to packed, one after the other: starts (n,) are rewritten. Returns the entries used."""
    used = 0
    for key in range(starts.shape[0]):
        start = np.int64(starts[key])
        for i in range(np.int64(counts[key])):
            packed[used + i] = pool[start + i]
        starts[key] = used
        used += np.int64(counts[key])
    return used
