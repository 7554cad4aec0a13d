"""Which items changed of late: what is derived from the catalogue catches up with these instead of being derived anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving import limits

Keys = NDArray[np.int32]


class ChangeLog:
    """A ring of the last CHANGED_COUNT_MAX changed keys. A revision is how many were ever noted."""

    def __init__(self) -> None:
        self.revision = 0
        self._first = 0  # the oldest revision from which one can catch up
        self._keys: Keys = np.zeros(limits.CHANGED_COUNT_MAX, dtype=np.int32)

    def note(self, keys: Keys) -> None:
        """Adds keys (m,)."""
        room = len(self._keys)
        kept = keys[-room:]
        start = (self.revision + len(keys) - len(kept)) % room
        head = kept[: room - start]
        self._keys[start : start + len(head)] = head
        self._keys[: len(kept) - len(head)] = kept[len(head) :]
        self.revision += len(keys)
        self._first = max(self._first, self.revision - room)

    def forget(self, revision: int) -> None:
        """Everything may have changed: nobody can catch up with `revision`."""
        self.revision = self._first = revision

    def since(self, revision: int) -> Keys | None:
        """(m,) int32 the distinct keys noted after `revision`; None where the ring no longer reaches back to it."""
        if revision < self._first:
            return None
        count, room = self.revision - revision, len(self._keys)
        start = revision % room
        found = self._keys[start : start + count]
        if len(found) < count:
            found = np.concatenate([found, self._keys[: count - len(found)]])
        return np.unique(found) if count > 1 else found.copy()
