"""Follows the active model: open, verify and warm the new one beside the old, then swap one reference.

Requests read `current` once and keep it: those that run while the reference changes end with the model they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from bundle import manifest_of, open_bundle, registry
from bundle.manifest import VERSION_PATTERN, BundleError
from runtime import metrics
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.postgres import Pool
from serving import limits
from serving.background import LAST_NICE, Background
from serving.memory import resident_bytes
from serving.model import NO_BOUND, LoadedModel, MemoryBound, load_model

REMEMBERED_FILE = ".active"  # beside the models: what to load when Postgres is away at the start


class ModelStore:
    """The model that answers, and the task that keeps it the active one."""

    def __init__(self, models_dir: Path, pool: Pool, clock: Clock, bound: MemoryBound = NO_BOUND) -> None:
        self.current: LoadedModel | None = None
        self.before_swap: list[Callable[[LoadedModel], Awaitable[None]]] = []  # of the model that comes
        self.after_swap: list[Callable[[LoadedModel], None]] = []  # of the model that goes: let it go
        self._bound = bound
        self._background = Background("model", LAST_NICE)
        self.models_dir = models_dir
        self._pool = pool
        self._clock = clock
        self._turn = asyncio.Lock()  # two looks at once would load the same model twice
        self._retry_s: dict[str, float] = {}  # by refused version: not tried, and not said, every second

    async def follow(self) -> None:
        """Looks once which model is active, and swaps to it when it is another one."""
        async with self._turn:
            await self._follow()

    async def _follow(self) -> None:
        version = await self._wanted_version()
        if version is None or self._is_settled(version):
            return
        start_s = self._clock.monotonic_s()
        model = await self._load(version)
        if model is None and self.current is None:
            model = await self._load_remembered(version)
        if model is not None:
            await self._swap(model)
            metrics.MODEL_SWAP_SECONDS.observe(self._clock.monotonic_s() - start_s)

    async def _load(self, version: str) -> LoadedModel | None:
        try:
            path = self.models_dir / version
            if self.current is None:  # nobody is answered meanwhile
                return await asyncio.to_thread(load_model, path, self._bound)
            return await self._background.run(load_model, path, self._bound)
        except (BundleError, OSError, MemoryError) as error:
            self._refuse(version, error)
            return None

    async def _load_remembered(self, refused: str) -> LoadedModel | None:
        """At the start, in place of an active model that is refused: the last one that answered here."""
        version = self._remembered_version()
        return None if version in (None, refused) else await self._load(str(version))

    def _is_settled(self, version: str) -> bool:
        if self.current and self.current.version == version:
            return True
        return self._clock.monotonic_s() < self._retry_s.get(version, 0.0)

    async def _wanted_version(self) -> str | None:
        try:
            async with asyncio.timeout(limits.FOLLOW_S_MAX):
                return await registry.active_version(self._pool)
        except (RecoError, TimeoutError):
            return None if self.current else self._remembered_version()

    async def verify(self, version: str) -> None:
        """BundleError if the bundle of `version` is not whole, or too large for this process."""
        path = self.models_dir / version
        self._bound.check(await self._background.run(manifest_of, path))
        await self._background.run(open_bundle, path)

    async def _swap(self, model: LoadedModel) -> None:
        for prepare in self.before_swap:
            await prepare(model)
        metrics.MODEL_SWAP_PEAK_BYTES.set(resident_bytes() or 0)
        old, self.current = self.current, model
        metrics.MODEL_INFO.labels(model.version).set(1)
        self._remember(model.version)
        structlog.get_logger().info(
            "model swapped", version=model.version, before=old.version if old else None
        )
        if old:
            metrics.MODEL_INFO.remove(old.version)
            for forget in self.after_swap:
                forget(old)
            # Unmapping takes milliseconds: where the last reference goes, in the thread.
            going = [old]
            del old
            await self._background.run(going.clear)

    def _refuse(self, version: str, error: BaseException) -> None:
        now_s = self._clock.monotonic_s()
        waiting = {refused: until_s for refused, until_s in self._retry_s.items() if until_s > now_s}
        self._retry_s = {**waiting, version: now_s + limits.REFUSED_RETRY_S}
        reason = "bundle" if isinstance(error, BundleError) else type(error).__name__
        metrics.MODEL_REFUSED_TOTAL.labels(reason).inc()
        going_on = self.current.version if self.current else None
        structlog.get_logger().error(
            "model refused, the old one goes on", version=version, error=str(error), current=going_on
        )

    def _remember(self, version: str) -> None:
        file = self.models_dir / REMEMBERED_FILE
        half = file.with_suffix(f".{os.getpid()}")
        # Only a convenience: a read-only or full disk must not stop a model from answering.
        with contextlib.suppress(OSError):
            half.write_text(version)
            half.replace(file)

    def _remembered_version(self) -> str | None:
        try:
            version = (self.models_dir / REMEMBERED_FILE).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        return version if VERSION_PATTERN.fullmatch(version) else None
