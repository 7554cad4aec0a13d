"""A model as serving holds it: the bundle's arrays, and what one thread needs to work with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle import manifest_of, open_bundle
from bundle.manifest import FEATURES_PARAM, BundleError, Manifest
from retrieval import Retriever
from serving.kernels import rows_of
from serving.memory import available_bytes
from vectorizer import ModelArrays, Workspace, gather, score, vectorize
from vectorizer.content import ContentModel
from vectorizer.features import FEATURES

PAGE_BYTES = 4_096  # of the memory that files are mapped in
KEY_BYTES = 8  # of a key beside the files: its row, with room for keys that the model does not know


@dataclass(frozen=True)
class LoadedModel:
    """A verified, mapped and warm model. Its workspace belongs to the event loop's thread."""

    version: str
    arrays: ModelArrays
    workspace: Workspace
    row_by_key: NDArray[np.int32]  # (largest key + 1,) int32, -1 where the model does not know the key
    retriever: Retriever  # its scratch memory belongs to the event loop's thread too
    content: ContentModel | None = None  # gives new items their vectors; None: the bundle has none

    def rows_of(self, keys: NDArray[np.int32]) -> NDArray[np.int32]:
        """(m,) int32 keys -> (m,) int32 rows, -1 where the model does not know the key."""
        rows = np.empty(len(keys), dtype=np.int32)
        rows_of(keys, self.row_by_key, rows)
        return rows


@dataclass(frozen=True)
class MemoryBound:
    """How much a model may take. A bundle is mapped whole while the one before it still answers."""

    bytes_max: int = 0  # of a bundle; 0: no bound of its own
    available: Callable[[], int | None] = available_bytes

    def check(self, manifest: Manifest) -> None:
        """BundleError if the bundle takes more than it may, or than there is."""
        needed = manifest.size_bytes + KEY_BYTES * _key_count(manifest)
        if self.bytes_max and needed > self.bytes_max:
            text = f"it takes {needed:,} bytes of memory, RECO_MODEL_BYTES_MAX allows {self.bytes_max:,}"
            raise BundleError(manifest.version, text)
        available = self.available()
        if available is not None and needed > available:
            text = (
                f"it takes {needed:,} bytes of memory beside the model that answers, {available:,} are free"
            )
            raise BundleError(manifest.version, text)


NO_BOUND = MemoryBound()  # but what there is


def _key_count(manifest: Manifest) -> int:
    entry = manifest.arrays.get("item_keys")
    return entry.shape[0] if entry and entry.shape else 0


def load_model(path: Path, bound: MemoryBound = MemoryBound()) -> LoadedModel:
    """Opens, verifies and warms the bundle at `path`; BundleError if it can't be used. Blocks for as long as that takes."""
    bound.check(manifest_of(path))
    bundle = open_bundle(path)
    try:
        arrays = ModelArrays.from_arrays(bundle.arrays, bundle.manifest.params)
        retriever = Retriever(bundle.arrays, bundle.manifest.params, arrays)
        content = ContentModel.from_arrays(bundle.arrays, arrays.factor_count)
        model = replace(of_arrays(bundle.manifest.version, arrays, retriever), content=content)
        _check_features(arrays)
        _touch(bundle.arrays.values())
        _warm(model)
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        # Whole, but not what this engine means by a model: arrays missing, of other shapes, or rows out of range.
        raise BundleError(path.name, f"its arrays do not fit together: {error}") from None
    return model


def of_arrays(version: str, arrays: ModelArrays, retriever: Retriever | None = None) -> LoadedModel:
    """The model of arrays that are in memory already."""
    row_by_key = np.full(int(arrays.item_keys.max(initial=-1)) + 1, -1, dtype=np.int32)
    row_by_key[arrays.item_keys] = np.arange(arrays.item_count, dtype=np.int32)
    retriever = retriever or Retriever({}, {}, arrays)
    return LoadedModel(version, arrays, Workspace(arrays), row_by_key, retriever)


def _check_features(arrays: ModelArrays) -> None:
    """ValueError when the forest was trained on other features than this engine computes: its scores would mean nothing."""
    if arrays.has_ranker and arrays.params.get(FEATURES_PARAM) != list(FEATURES):
        raise ValueError("its ranker was trained on features that this engine does not compute")


def _touch(arrays: Iterable[np.ndarray]) -> None:
    """Reads a byte of every mapped page, so that no request waits for a disk or for the kernel to map it."""
    for array in arrays:
        array.reshape(-1).view(np.uint8)[::PAGE_BYTES].sum()


def _warm(model: LoadedModel) -> None:
    """Runs every kernel on these very arrays, so that no request waits for a compiler."""
    arrays = model.arrays
    if not arrays.item_count:
        return
    rows = arrays.popularity_order[:1]
    codes, times = np.ones(1, dtype=np.uint8), np.ones(1, dtype=np.uint32)
    now = int(time.time())
    vector = vectorize(rows, codes, times, arrays, model.workspace)
    found = gather(rows, codes, times, vector, arrays, model.workspace)
    score(found.rows, rows, codes, times, now, vector, arrays, model.workspace)
    model.retriever.warm()
