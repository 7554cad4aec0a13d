"""Slow plain twins of the kernels over tables of texts."""

from __future__ import annotations


class PlainTable:
    """Two dicts."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.numbers: dict[str, int] = {}

    def put(self, number: int, text: str) -> int:
        if number < 0:
            number = self.numbers.get(text, max(self.texts, default=0) + 1)
        before = self.numbers.get(text)
        if before is not None and before != number:
            del self.texts[before]
        replaced = self.texts.get(number)
        if replaced is not None and replaced != text:
            del self.numbers[replaced]
        self.texts[number], self.numbers[text] = text, number
        return number


def holds(part: str, text: str) -> bool:
    return part in text.casefold()


def sign(text: str, wanted: str) -> int:
    return (text > wanted) - (text < wanted)


def runs(starts: list[int], counts: list[int], pool: list[int]) -> list[list[int]]:
    return [pool[start : start + count] for start, count in zip(starts, counts, strict=True)]
