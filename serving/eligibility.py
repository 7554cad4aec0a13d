"""Which items may be answered: available, not expired, passing the filter; and, by request, not blocked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from reco.ranking.v1.ranking_service_pb2 import FilterMode

from retrieval import Shown, Tuned, tuned
from retrieval import limits as retrieval_limits
from serving import limits
from serving.background import LAST_NICE, SOON_NICE, Background
from serving.bitmaps import Bitmap, Bitmaps, Unfilled
from serving.catalogue import Catalogue
from serving.eligible import NO_KEYS, NOT_HIDDEN, Eligible, Kept, View, derive
from serving.filter_syntax import normal_form
from serving.model import LoadedModel
from vectorizer.key_set import KeySet

__all__ = ["NOT_HIDDEN", "NO_KEYS", "BlockedKeys", "EligibilityCache", "Eligible"]

Keys = NDArray[np.int32]
Vectors = NDArray[np.float32]
Name = tuple[str, str]  # a model's version, and a filter's normal form
BITMAP = "\0"  # stands for the version where a bitmap alone is compiled: no version is called so


def no_vectors(model: LoadedModel) -> Vectors:
    """No user has been seen yet."""
    return np.zeros((0, model.arrays.factors.shape[1]), dtype=np.float32)


class EligibilityCache:
    """Keeps what was derived for the filters of late, within ELIGIBLE_BYTES_MAX. For the event loop's thread.

    `recent_vectors` gives recent users' vectors (m, d) float32 by the given model: what a filter's recall is measured on.
    """

    def __init__(
        self, catalogue: Catalogue, recent_vectors: Callable[[LoadedModel], Vectors] = no_vectors
    ) -> None:
        self.bitmaps = Bitmaps(catalogue)
        self.recent_vectors = recent_vectors
        self._catalogue = catalogue
        self._kept: OrderedDict[Name, Kept] = OrderedDict()
        self._bytes = 0
        self._model: LoadedModel | None = None  # the one that was asked for last
        self._going: dict[Name, asyncio.Task[None]] = {}
        self._soon = Background("filters", SOON_NICE)
        self._last = Background("filter-recall", LAST_NICE)

    def of(self, model: LoadedModel | None, filter_text: str) -> Eligible:
        """What may be answered now; CallerError FILTER_INVALID if the filter can't be read.

        Microseconds where little has changed since; a pass over the items where `prepare` was not waited for.
        """
        name = _name_of(model, filter_text)
        self._model = model
        kept = self._kept.get(name)
        if kept is None or (
            kept.revision != self._catalogue.revision and not self._catches_up(name, kept, model)
        ):
            bitmap = self.bitmaps.of(filter_text)
            _, kept = derive(bitmap, View.of(self._catalogue), model, filter_text)
            self._keep(name, kept)
        self._kept.move_to_end(name)
        return kept.eligible

    async def prepare(
        self, filter_texts: Sequence[str], budget_left_s: float, model: LoadedModel | None = None
    ) -> None:
        """Derives what is new in a thread, so that `of` need not; returns at once where nothing is. At most `budget_left_s`.

        Without a model it is done for the one that was asked for last. CallerError FILTER_INVALID.
        """
        model = model or self._model
        tasks = [
            self._start(model, text, self._soon) for text in filter_texts if not self._is_ready(model, text)
        ]
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=max(0.0, budget_left_s))
            for task in done:
                task.result()

    async def prepare_bitmaps(self, filter_texts: Sequence[str], budget_left_s: float) -> None:
        """As `prepare`, of filters that single items are asked about: `bitmaps.of` need not compile them then."""
        tasks = [self._start_bitmap(text) for text in filter_texts if not self.bitmaps.has(text)]
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=max(0.0, budget_left_s))
            for task in done:
                task.result()

    async def prepare_for(self, model: LoadedModel) -> None:
        """Derives for a model that comes next what is kept for the one that answers, the most used first."""
        version = self._model.version if self._model else ""
        kept = reversed(self._kept.items())
        for text in [each.filter_text for name, each in kept if name[0] == version]:
            if not self._is_ready(model, text):
                await self._start(model, text, self._last)  # nobody waits for it: the model before answers

    def forget_model(self, model: LoadedModel) -> None:
        """Lets go of a model that answers no more, and of what was derived for it."""
        if self._model is model:
            self._model = None
        self.forget(model.version)

    def forget(self, version: str) -> None:
        """Lets go what was derived for a model that answers no more."""
        for name in [name for name in self._kept if name[0] == version]:
            self._bytes -= self._kept.pop(name).size_bytes

    @property
    def size_bytes(self) -> int:
        """The bytes of everything that is kept, the bitmaps aside."""
        return self._bytes

    async def look(self) -> bool:
        """Derives anew, or measures, the filter of late that needs it most; False if none does. Takes its time in a thread."""
        model = self._model
        for name, kept in reversed(self._kept.items()):
            if model is None or name[0] != model.version:
                continue
            if kept.worn:
                await self._start(model, kept.filter_text, self._soon)
                return True
            if self._is_to_be_measured(kept, model):
                await self._measure(name, kept, model)
                return True
        return False

    def _catches_up(self, name: Name, kept: Kept, model: LoadedModel | None) -> bool:
        before = kept.size_bytes
        done = kept.catches_up(self._catalogue, self.bitmaps.of(kept.filter_text), model)
        self._bytes += kept.size_bytes - before
        return done

    def _is_ready(self, model: LoadedModel | None, filter_text: str) -> bool:
        kept = self._kept.get(_name_of(model, filter_text))
        if kept is None or kept.layout != self._catalogue.layout:
            return False
        if kept.revision == self._catalogue.revision:
            return True
        keys = self._catalogue.changes_since(kept.revision)
        return keys is not None and len(keys) <= limits.CATCH_UP_COUNT_MAX

    def _start(self, model: LoadedModel | None, filter_text: str, thread: Background) -> asyncio.Task[None]:
        """One derivation of a filter at a time, whoever asks for it; it goes on when they no longer wait."""
        name = _name_of(model, filter_text)
        task = self._going.get(name)
        if task is None:
            has = self.bitmaps.has(filter_text)
            source = self.bitmaps.of(filter_text).copy() if has else self.bitmaps.unfilled(filter_text)
            work = self._derive(thread, source, View.of(self._catalogue), model, filter_text)
            task = asyncio.create_task(work)
            self._going[name] = task
            task.add_done_callback(lambda _: self._going.pop(name, None))
        return task

    def _start_bitmap(self, filter_text: str) -> asyncio.Task[None]:
        name = BITMAP, normal_form(filter_text)
        task = self._going.get(name)
        if task is None:
            task = asyncio.create_task(self._compile(filter_text, self.bitmaps.unfilled(filter_text)))
            self._going[name] = task
            task.add_done_callback(lambda _: self._going.pop(name, None))
        return task

    async def _compile(self, filter_text: str, source: Unfilled) -> None:
        self.bitmaps.keep(filter_text, await self._soon.run(source.filled))

    async def _derive(
        self,
        thread: Background,
        source: Bitmap | Unfilled,
        view: View,
        model: LoadedModel | None,
        filter_text: str,
    ) -> None:
        bitmap, kept = await thread.run(derive, source, view, model, filter_text)
        if source is not bitmap:
            self.bitmaps.keep(filter_text, bitmap)
        name = _name_of(model, filter_text)
        before = self._kept.get(name)
        if before is not None:
            kept.take_over(before, model)
        self._keep(name, kept)

    def _is_to_be_measured(self, kept: Kept, model: LoadedModel) -> bool:
        eligible = kept.eligible
        scans = eligible.shown is not None and eligible.shown.plan is not None
        if not (kept.filtered or scans) or eligible.mode == FilterMode.FILTER_MODE_EXACT:
            return False  # without a filter, serving/drift.py measures
        if kept.measured_count < 0:
            return True
        enough = len(self.recent_vectors(model)) >= retrieval_limits.FILTER_QUERY_COUNT_MIN
        return not kept.by_users and enough

    async def _measure(self, name: Name, kept: Kept, model: LoadedModel) -> None:
        vectors = self.recent_vectors(model)[-retrieval_limits.FILTER_QUERY_COUNT :]
        by_users = len(vectors) >= retrieval_limits.FILTER_QUERY_COUNT_MIN
        queries = vectors.copy() if by_users else _items_as_users(model)
        count, hidden, shown = kept.eligible.count, kept.eligible.hidden.copy(), kept.first_shown(model)
        found = await self._last.run(_tuned, model, hidden, shown, queries)
        if self._kept.get(name) is kept:
            kept.measured(found, count, by_users, self._catalogue.size, model)

    def _keep(self, name: Name, kept: Kept) -> None:
        before = self._kept.pop(name, None)
        self._kept[name] = kept
        self._bytes += kept.size_bytes - (before.size_bytes if before else 0)
        while self._bytes > limits.ELIGIBLE_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.size_bytes


def _name_of(model: LoadedModel | None, filter_text: str) -> Name:
    return model.version if model else "", normal_form(filter_text)


def _tuned(model: LoadedModel, hidden: NDArray[np.uint8], shown: Shown | None, queries: Vectors) -> Tuned:
    # A retriever of its own: the scratch memory of the loaded one is the event loop's.
    return tuned(model.retriever.clone(), hidden, shown, queries)


def _items_as_users(model: LoadedModel) -> Vectors:
    """(m, d) float32: items of every norm, where no user has been seen yet."""
    factors = model.arrays.factors
    step = max(1, len(factors) // retrieval_limits.FILTER_QUERY_COUNT)
    return np.ascontiguousarray(factors[::step][: retrieval_limits.FILTER_QUERY_COUNT])


class BlockedKeys:
    """One request's seen, excluded, shown and context items, as a hash table for the kernels."""

    def __init__(self) -> None:
        self._set = KeySet()
        self.table = self._set.of(NO_KEYS)

    def block(self, keys: Keys) -> None:
        """Blocks the keys, and those alone."""
        assert len(keys) <= limits.BLOCKED_COUNT_MAX, "more than the contract lets a request name"
        self.table = self._set.of(keys)
