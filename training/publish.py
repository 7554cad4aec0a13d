"""Publishes a model: bundle, registry, and activation unless it is worse than the active one by more than the margin."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray
from reco.errors.v1 import error_reason_pb2

import bundle
from bundle import registry
from bundle.manifest import FEATURES_PARAM, MANIFEST_FILE, Manifest
from retrieval import build, figures_of, in_words
from runtime.clock import Clock, SystemClock
from runtime.errors import DependencyError, NotFoundError, RecoError
from runtime.postgres import Pool
from runtime.settings import Settings
from vectorizer import ModelArrays
from vectorizer.content import ContentModel
from vectorizer.features import FEATURES

METRIC = "ndcg_at_10"  # what models are compared by; its prefix says which part of the model scored it
PREFIXES = ("ranker", "vectorizer")  # the first that a model has is what it answers with

FOUND_NOTE = "found on the disk, after the registry was lost"
MODELS_MAX = 100_000  # bundles of RECO_MODEL_KEEP_COUNT are kept, so far fewer


@dataclass(frozen=True)
class Outcome:
    """What became of a model."""

    version: str
    activated: bool
    reason: str  # for people


async def publish(
    settings: Settings,
    pool: Pool,
    arrays: Mapping[str, np.ndarray],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    event_count: int,
    note: str,
    clock: Clock | None = None,
    queries: NDArray[np.float32] | None = None,
    content: ContentModel | None = None,
) -> Outcome:
    """Writes the bundle, registers it and activates it, or holds it and says why.

    The bundle has the model's rows by falling norm, and no bucket edge that a request after the last event does not read.
    `queries` (m, d) float32 are vectors of users, by which the bundle's retrieval plan is chosen; None: by its items.
    `content` gives new items their vectors; None: they have none.

    DependencyError STORAGE_FULL if the disk is full, STORE_UNAVAILABLE if Postgres does not answer: then nothing is
    registered and the active model stays.
    """
    now_s = (clock or SystemClock()).time_s()
    version = new_version(now_s, uuid4().hex)
    model = ModelArrays.from_arrays(arrays, {**params, FEATURES_PARAM: list(FEATURES)})
    manifest = await asyncio.to_thread(
        _write, settings.models_dir, version, model, metrics, now_s, queries, content
    )
    try:
        outcome = await _register(settings, pool, manifest, event_count, note)
    except BaseException:
        await _remove_if_unknown(settings, pool, version)
        raise
    await _remove_old(settings, pool)
    return outcome


async def _remove_old(settings: Settings, pool: Pool) -> None:
    # The disk is the only thing that old bundles take: what goes wrong here is no reason for a publication to fail.
    try:
        known, kept = await registry.known_and_kept(pool, settings.model_keep_count)
        gone = await asyncio.to_thread(bundle.remove, settings.models_dir, kept, known)
    except RecoError as error:
        structlog.get_logger().warning("old bundles are kept for now", error=error.message)
        return
    if gone:
        structlog.get_logger().info("old bundles removed", versions=gone)


async def _remove_if_unknown(settings: Settings, pool: Pool, version: str) -> None:
    # A bundle that no registry knows of would never be found again. But a connection that broke may have broken after
    # the commit: without its bundle the active model could not be loaded any more.
    folder = settings.models_dir / version
    try:
        await registry.get_model(pool, version)
    except NotFoundError:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    except RecoError:
        message = "a bundle may be unregistered; delete it if `reco models list` does not show it"
        structlog.get_logger().warning(message, path=str(folder))


async def _register(
    settings: Settings, pool: Pool, manifest: Manifest, event_count: int, note: str
) -> Outcome:
    verdict = judge(manifest.metrics, await registry.active_model(pool), settings.model_margin)
    reason = verdict or f"published, {quality_text(manifest.metrics)}"
    row = _row(manifest, event_count, "; ".join(part for part in (note, verdict) if part), verdict is None)
    await registry.register(pool, row, reason if verdict is None else None)
    return Outcome(manifest.version, verdict is None, reason)


async def register_found(settings: Settings, pool: Pool) -> int:
    """Registers bundles that are there and that a registry which was lost does not know; returns how many.

    Where no model is active, the newest becomes it. What held one back, and how many events it saw, is not known any more.
    """
    known = {row.version for row in await registry.list_models(pool, count=MODELS_MAX)}
    manifests = [each for each in await asyncio.to_thread(_found, settings) if each.version not in known]
    for manifest in manifests:
        await registry.register(pool, _row(manifest, 0, FOUND_NOTE, may_answer=True), None)
    if manifests and await registry.active_version(pool) is None:
        await registry.activate(pool, max(each.version for each in manifests), FOUND_NOTE)
    return len(manifests)


def _found(settings: Settings) -> list[Manifest]:
    """Manifests of all bundles that can be read."""
    manifests = []
    for path in sorted(settings.models_dir.glob(f"*/{MANIFEST_FILE}")):
        with contextlib.suppress(RecoError):  # damaged, or of a version to come
            manifests.append(bundle.manifest_of(path.parent))
    return manifests


def _row(manifest: Manifest, event_count: int, note: str, may_answer: bool) -> registry.ModelRow:
    return registry.ModelRow(
        version=manifest.version,
        state=registry.PUBLISHED if may_answer else registry.HELD,
        create_time=datetime.fromtimestamp(manifest.create_time_s, UTC),
        activate_time=None,
        metrics=manifest.metrics,
        item_count=_length(manifest, "item_keys"),
        event_count=event_count,
        size_bytes=manifest.size_bytes,
        has_ranker=_length(manifest, "forest_features") > 0,
        note=note,
    )


def _length(manifest: Manifest, array: str) -> int:
    shape = manifest.arrays[array].shape
    return shape[0] if shape else 0


def new_version(time_s: float, random_hex: str) -> str:
    """A version that sorts by time: "20261123T101500-4f1c2a"."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y%m%dT%H%M%S}-{random_hex[:6]}"


def judge(metrics: Mapping[str, float], active: registry.ModelRow | None, margin: float) -> str | None:
    """Why a model with these metrics is held, for people; None if it may be activated.

    `margin` is relative: 0.02 holds what scores less than 98 % of the active model's NDCG@10.
    """
    mine, theirs = quality(metrics), quality(active.metrics) if active else None
    if active is None or theirs is None or (mine is not None and mine >= theirs * (1 - margin)):
        return None
    return (
        f"held: {quality_text(metrics)} is worse than {theirs:.4f} of the active model {active.version} by more than"
        f" {margin:.0%}; activate it by hand if that is meant"
    )


def quality(metrics: Mapping[str, float]) -> float | None:
    """NDCG@10 of what the model answers with: the ranker's, else the vectorizer's; None if it was not measured."""
    found = (metrics.get(f"{prefix}_{METRIC}") for prefix in PREFIXES)
    return next((value for value in found if value is not None), None)


def quality_text(metrics: Mapping[str, float]) -> str:
    """The quality for people."""
    value = quality(metrics)
    return "NDCG@10 not measured" if value is None else f"NDCG@10 {value:.4f}"


def _write(
    models_dir: Path,
    version: str,
    model: ModelArrays,
    metrics: Mapping[str, float],
    now_s: float,
    queries: NDArray[np.float32] | None,
    content: ContentModel | None,
) -> Manifest:
    """Blocks: half a minute for the retrieval of a million items."""
    model = model.by_norm().trimmed()
    queries = model.factors[:0] if queries is None else queries
    built = build(model.factors, model.factor_norms, queries)
    structlog.get_logger().info("retrieval planned", plan=in_words(built.plan), reason=built.plan.reason)
    try:
        metrics = {**metrics, **figures_of(built.plan)}
        path = bundle.write(
            models_dir,
            version,
            {**model.to_arrays(), **built.arrays, **(content.to_arrays() if content else {})},
            {**model.params, **built.params},
            metrics,
            {},
            now_s,
        )
    except PermissionError as error:
        raise _not_writable(models_dir, error) from None
    return bundle.open_bundle(path, verify=False).manifest


def _not_writable(models_dir: Path, error: OSError) -> DependencyError:
    message = (
        f"{models_dir} can't be written to ({error.strerror}); no model was published, see RECO_MODELS_URL"
    )
    return DependencyError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message, {"store": "models"})
