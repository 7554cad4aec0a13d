"""Inputs made from others by small random changes. The same seed, the same inputs: that is what tests run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.fuzz.target import INPUT_BYTES_MAX, Target

CHANGES_MAX = 5  # of one input
KEPT_MAX = 64  # changed inputs that others are made from, so that changes add up
EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def inputs(target: Target, known: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """`count` inputs for a target: its seeds and `known` as they are, then changed ones."""
    dice = random.Random(f"{target.name}:{seed}")
    whole = [*target.seeds, *known, b""]
    yield from whole[:count]
    kept = list(whole)
    for _ in range(count - len(whole)):
        made = _changed(dice, dice.choice(dice.choice((whole, kept))), kept, target)
        if len(kept) < len(whole) + KEPT_MAX:
            kept.append(made)
        else:
            kept[len(whole) + dice.randrange(KEPT_MAX)] = made
        yield made


def _changed(dice: random.Random, data: bytes, others: list[bytes], target: Target) -> bytes:
    made = bytearray(data)
    for _ in range(dice.randint(1, CHANGES_MAX)):
        change = dice.choice(_CHANGES)
        change(dice, made, others, target)
    return bytes(made[:INPUT_BYTES_MAX])


def _place(dice: random.Random, data: bytearray) -> int:
    return dice.randint(0, len(data))


def _flip(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _put(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    if data:
        data[dice.randrange(len(data))] = dice.choice((*EDGES, dice.randrange(256)))


def _insert(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    at = _place(dice, data)
    data[at:at] = dice.choice(target.words) if target.words else dice.randbytes(dice.randint(1, 4))


def _remove(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    at = _place(dice, data)
    del data[at : at + dice.randint(1, 8)]


def _repeat(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    at = _place(dice, data)
    data[at:at] = data[at : at + dice.randint(1, 16)] * dice.choice((1, 1, 1, 50))


def _splice(dice: random.Random, data: bytearray, others: list[bytes], target: Target) -> None:
    other = dice.choice(others)
    data[_place(dice, data) :] = other[dice.randint(0, len(other)) :]


_CHANGES: tuple[Callable[[random.Random, bytearray, list[bytes], Target], None], ...] = (
    _flip, _put, _insert, _insert, _remove, _repeat, _splice,
)  # fmt: skip
