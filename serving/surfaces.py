"""The surfaces that requests are answered by: read from a file, checked as a whole, read again when its content changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest

from runtime import metrics
from runtime.errors import CallerError
from serving.eligibility import EligibilityCache
from serving.rules import Rules, over
from serving.surface_file import SurfaceFile, SurfaceFileError, read_file
from serving.surface_reader import Mistake

SURFACES_PERIOD_S: Final = 1.0  # between two looks at the file
PREPARE_S_MAX: Final = 10.0  # of one surface's filters: tenths of a second each at a million items
KEPT_COUNT_MAX = 1_024  # rules kept by what was asked for: some 500 bytes each

# Raises CallerError where a filter can't be applied to the items there are; compiles it otherwise.
Prepare = Callable[[Rules], Awaitable[None]]


class Surfaces:
    """`current` answers. For the event loop's thread."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads the file. SurfaceFileError if it is wrong, or can't be read."""
        self.prepare: Prepare | None = None  # of the filters of a file that comes next
        self._path, self._told = path, ""
        self._kept: dict[tuple[object, ...], Rules] = {}
        self.current = SurfaceFile() if path is None else read_file(path)

    def rules_of(self, request: RecommendRequest) -> Rules:
        """The rules of one request."""
        if len(request.boosts):
            return over(self._surface(request.surface), request)
        asked = (
            request.surface,
            request.page_size,
            request.filter,
            request.max_per_category,
            request.include_seen,
            request.diversity if request.HasField("diversity") else None,
            request.min_score if request.HasField("min_score") else None,
        )
        found = self._kept.get(asked)
        if found is None:
            if len(self._kept) >= KEPT_COUNT_MAX:
                self._kept.clear()
            found = self._kept[asked] = over(self._surface(request.surface), request)
        return found

    async def look(self) -> bool:
        """Takes the file's new content over; False, and the old one goes on, where there is nothing new or it is wrong."""
        if self._path is None:
            return False
        try:
            found = await asyncio.to_thread(read_file, self._path)
            if found.version == self.current.version:
                self._told = ""
                return False
            await self._check(found)
        except SurfaceFileError as error:
            self._tell(error)
            return False
        self.current, self._told = found, ""
        self._kept.clear()
        metrics.SURFACES_RELOADED_TOTAL.labels("taken").inc()
        structlog.get_logger().info("surfaces reloaded", version=found.version, count=len(found.surfaces))
        return True

    async def begin(self) -> None:
        """Compiles the filters; that no item has what one of them names is told: at a first start there are no items yet."""
        try:
            await self._check(self.current)
        except SurfaceFileError as error:
            lines = str(error).splitlines()
            structlog.get_logger().warning("surfaces name what no item has", mistakes=lines)

    async def _check(self, file: SurfaceFile) -> None:
        mistakes: list[Mistake] = []
        for rules in file.all if self.prepare else ():
            try:
                await self._prepare(rules)
            except CallerError as error:
                place = f"surfaces.{rules.surface}" if rules.surface else "default"
                mistakes.append(Mistake(place, error.message, "what items have"))
        if mistakes:
            raise SurfaceFileError(str(self._path), mistakes)

    async def _prepare(self, rules: Rules) -> None:
        if self.prepare is not None:
            await self.prepare(rules)

    def _surface(self, name: str) -> Rules:
        return self.current.surfaces.get(name, self.current.default)

    def _tell(self, error: SurfaceFileError) -> None:
        if str(error) != self._told:  # once, not every second
            self._told = str(error)
            metrics.SURFACES_RELOADED_TOTAL.labels("refused").inc()
            lines = str(error).splitlines()
            structlog.get_logger().error("surface file refused, the one before goes on", mistakes=lines)


async def prepare_filters(eligibility: EligibilityCache, rules: Rules) -> None:
    """A surface's filters, compiled in a thread; CallerError FILTER_INVALID where no item has what one names."""
    await eligibility.prepare(rules.eligible_filters, PREPARE_S_MAX)
    await eligibility.prepare_bitmaps(rules.boost_filters, PREPARE_S_MAX)
