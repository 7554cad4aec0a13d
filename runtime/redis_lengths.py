"""How many elements answers of Redis announce, before hiredis makes room for them: a damaged length could ask for gigabytes."""

from __future__ import annotations

from redis.exceptions import InvalidResponse

ELEMENTS_MAX = 100_000  # an answer of ours has some tens; room for so many is 800 KB
LINE_BYTES_MAX = 64 * 1024  # of a simple text, an error's

_BULKS, _LISTS = b"$=!", b"*>~%|"  # RESP3: texts with their length, and what holds others


class Lengths:
    """Walks over the bytes of one connection as they come. Costs some 1.5 us an answer, however long."""

    def __init__(self) -> None:
        self._skip = 0  # bytes of a text that are still to come
        self._line = b""  # the beginning of a line whose end is still to come

    def look(self, data: bytes) -> None:
        """Raises InvalidResponse where more than ELEMENTS_MAX are announced. What is no RESP is left to the parser."""
        at, size = self._skip, len(data)
        while at < size:
            end = data.find(b"\n", at)
            if end < 0:
                self._begin(data[at:])
                return
            at = end + 1 + self._behind(self._line + data[at:end])
            self._line = b""
        self._skip = at - size

    def _begin(self, part: bytes) -> None:
        self._skip, self._line = 0, self._line + part
        if len(self._line) > LINE_BYTES_MAX:
            raise InvalidResponse("a line without an end")

    def _behind(self, line: bytes) -> int:
        """How many bytes behind the line belong to it."""
        kind = line[:1]
        if kind not in _BULKS and kind not in _LISTS:
            return 0
        try:
            length = int(line[1:])
        except ValueError:
            return 0
        if kind in _BULKS:
            return length + 2 if length >= 0 else 0
        if length > ELEMENTS_MAX:
            raise InvalidResponse(f"an answer announces {length} elements")
        return 0
