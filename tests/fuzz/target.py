"""What a target of the fuzzers is, and how bytes become choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

INPUT_BYTES_MAX = 4_096  # longer ones find no more, and take longer


@dataclass(frozen=True)
class Target:
    """One reader. `run` returns for bytes that it reads and for bytes that it refuses as it should; all else is a finding."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]  # whole ones, from our own writers
    words: Sequence[bytes] = ()  # what is worth putting in between
    slow: int = field(default=1)  # how many times fewer inputs than a quick one a short run takes


class Choices:
    """Bytes as a run of choices; when they have run out, the first of everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def number(self, below: int) -> int:
        """0 to `below` - 1, at most 256."""
        if not self.left:
            return 0
        self._at += 1
        return self._data[self._at - 1] % below

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.number(len(things))]

    def text(self, chars_max: int = 12) -> str:
        """Any text, often a short one of ASCII."""
        length = self.number(chars_max)
        taken = self._data[self._at : self._at + length]
        self._at += len(taken)
        return taken.decode(errors="replace")


def text_of(data: bytes) -> str:
    """Bytes as a text, lone surrogates among them."""
    return data.decode(errors="surrogateescape") if data[:1] == b"\0" else data.decode(errors="replace")
