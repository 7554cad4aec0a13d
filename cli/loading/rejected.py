"""Rows that were not taken, in a file beside the source: their numbers, why, and what they say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from training.tables import Row

SUFFIX = ".rejected.jsonl"


class Rejected:
    """Appends to the file; made with the first row, so that a load without one leaves no file."""

    def __init__(self, path: Path, length: int) -> None:
        """Keeps the first `length` bytes: what came behind them was not in the checkpoint, and comes again."""
        self.path = path
        self._length = length
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Rejected:
        if self.path.exists():
            if self._length:
                os.truncate(self.path, self._length)
            else:
                self.path.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, number: int, reason: str, message: str, row: Row) -> None:
        """One row, as one line."""
        if self._file is None:
            self._file = self.path.open("ab")
        line = {"row": number, "reason": reason, "message": message, "data": row}
        self._file.write(json.dumps(line, default=str).encode() + b"\n")

    def sync(self) -> int:
        """Makes the file durable and answers its length."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._length = self._file.tell()
        return self._length
