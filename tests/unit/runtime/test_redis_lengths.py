"""Announced lengths: what asks for too much is found wherever the bytes are cut, and what only looks like it is not."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from redis.exceptions import InvalidResponse

from runtime.redis_lengths import ELEMENTS_MAX, LINE_BYTES_MAX, Lengths

TOO_MANY = b"*%d\r\n" % (ELEMENTS_MAX + 1)
ANSWERS = [
    b"$5\r\nhello\r\n", b"$-1\r\n", b"_\r\n", b"+OK\r\n", b"-ERR no\r\n", b":17\r\n", b"%1\r\n+a\r\n:1\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n", b"*%d\r\n" % ELEMENTS_MAX,
    b"$%d\r\n%b\r\n" % (len(TOO_MANY), TOO_MANY),  # a text that looks like it
]  # fmt: skip


def look(data: bytes, cuts: list[int]) -> bool:
    """Whether too much is announced."""
    lengths = Lengths()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(places):
            lengths.look(data[start:end])
    except InvalidResponse:
        return True
    return False


@pytest.mark.parametrize("seed", range(100))
def test_too_much_is_found_wherever_it_is_cut_and_nothing_else_is(seed: int) -> None:
    chance = random.Random(seed)
    answers = [chance.choice(ANSWERS) for _ in range(chance.randrange(12))]
    cuts = [chance.randrange(500) for _ in range(chance.randrange(8))]
    assert not look(b"".join(answers), cuts)
    answers.insert(
        chance.randrange(len(answers) + 1), chance.choice([TOO_MANY, b">444444441\r\n", b"%99999999\r\n"])
    )
    assert look(b"".join(answers), cuts)


def test_a_line_without_an_end_is_refused() -> None:
    lengths = Lengths()
    lengths.look(b"-" + b"x" * (LINE_BYTES_MAX - 1))
    with pytest.raises(InvalidResponse):
        lengths.look(b"x")


@pytest.mark.parametrize("data", [b"hello\r\n", b"*x\r\n", b"$\r\n", b"$9999999999999\r\nx", b"\r\n", b""])
def test_what_is_no_resp_is_left_to_the_parser(data: bytes) -> None:
    assert not look(data, [])
