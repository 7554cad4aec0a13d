"""A data set in its folder: written whole or not at all, mapped when it is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.generate.attributes import Attributes
from bench.generate.users import Events
from vectorizer.model import ModelArrays

PARAMS_FILE = "params.json"


@dataclass(frozen=True)
class Dataset:
    """Everything that the bench knows of one catalogue and its users."""

    model: ModelArrays  # rows by falling norm
    events: Events  # of the users
    attributes: Attributes
    queries: NDArray[np.float32]  # (q, d) fold-in vectors of users, none of them zero
    query_users: NDArray[np.int32]  # (q,) whose they are
    truth: NDArray[np.int32]  # (q, 200) rows by falling inner product: the exact answer

    def write(self, folder: Path) -> None:
        """Writes the folder anew."""
        half = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(half, ignore_errors=True)
        for part, arrays in self._parts().items():
            (half / part).mkdir(parents=True)
            for name, array in arrays.items():
                np.save(half / part / f"{name}.npy", array)
        (half / PARAMS_FILE).write_text(json.dumps(dict(self.model.params), indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)

    def _parts(self) -> dict[str, dict[str, np.ndarray]]:
        queries = {"queries": self.queries, "query_users": self.query_users, "truth": self.truth}
        return {
            "model": self.model.to_arrays(),
            "events": vars(self.events),
            "attributes": vars(self.attributes),
            "queries": queries,
        }


def read(folder: Path) -> Dataset:
    """The data set of a folder; its arrays are mapped and read-only. Raises OSError, ValueError."""
    params: dict[str, Any] = json.loads((folder / PARAMS_FILE).read_text())
    queries = _mapped(folder / "queries")
    return Dataset(
        ModelArrays.from_arrays(_mapped(folder / "model"), params),
        Events(**_mapped(folder / "events")),
        Attributes(**_mapped(folder / "attributes")),
        queries["queries"],
        queries["query_users"],
        queries["truth"],
    )


def _mapped(folder: Path) -> dict[str, np.ndarray]:
    # Copy-on-write: numba's signatures know no read-only arrays, and nobody writes.
    return {path.stem: np.asarray(np.load(path, mmap_mode="c")) for path in sorted(folder.glob("*.npy"))}
