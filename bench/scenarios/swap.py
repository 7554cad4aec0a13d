"""Models swapped under load: what fails, how much slower calls get meanwhile, how long a swap takes, what memory it takes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
from reco.ranking.v1.model_service_pb2 import ActivateModelRequest, GetModelRequest
from reco.ranking.v1.model_service_pb2_grpc import ModelServiceStub

import bundle
from bench.load.answer import OK
from bench.processes import Server, roughly_resident_bytes
from bench.scenarios.context import Context, Found, finish
from bench.scenarios.rounds import median
from bench.scenarios.speed import LOAD_SHARE, at_rate, slim
from bundle.manifest import MANIFEST_FILE

SUFFIX = "-again"  # of the second bundle's version
SWAP_WAIT_S_MAX = 120.0
TICK_S = 0.05
CALL_WAIT_S_MAX = 60.0  # of an activation: it verifies the bundle first


def swap(context: Context, server: Server) -> Found:
    """Rounds of a calm run and one with swap after swap, at the same rate: half of saturation."""
    versions = two_versions(context)
    rate = context.saturation_per_s * LOAD_SHARE
    rounds = [_round(context, server, versions, rate) for _ in range(context.timing.rounds)]
    before, peak = rounds[0]["resident_before"], max(each["resident_peak"] for each in rounds)
    seconds = [each for found in rounds for each in found["swap_s"]]
    return Found(
        {
            "swap_failed_count": float(sum(each["failed"] for each in rounds)),
            "swap_p99_ratio": median(each["p99_ratio"] for each in rounds),
            "swap_s": median(seconds),
            "swap_peak_memory_share": peak / before,
        },
        {"rounds": rounds, "bundle_bytes": _size_bytes(context, versions[0])},
    )


def _round(context: Context, server: Server, versions: tuple[str, str], rate: float) -> dict[str, Any]:
    before = roughly_resident_bytes(server.pids)
    calm = at_rate(context, f"grpc://{server.address}", rate)
    load = context.start_load("open", f"grpc://{server.address}", rate=round(rate, 1))
    took_s: list[float] = []
    peak = before

    def look() -> None:
        nonlocal peak
        peak = max(peak, roughly_resident_bytes(server.pids))

    while load.poll() is None:
        took_s.append(swap_to(server, versions[(len(took_s) + 1) % 2], SWAP_WAIT_S_MAX, look))
    if len(took_s) % 2:  # the first one answers again when the round is over
        swap_to(server, versions[0], SWAP_WAIT_S_MAX)
    swapping = slim(finish(load))
    p99s = [run["latency_ms"].get("p99") for run in (swapping, calm)]
    return {
        "failed": sum(count for status, count in swapping["statuses"].items() if status != OK),
        "p99_ratio": p99s[0] / p99s[1] if all(p99s) else None,
        "swap_s": took_s,
        "resident_before": before,
        "resident_peak": peak,
        "calm": calm,
        "swapping": swapping,
    }


def swap_to(server: Server, version: str, wait_s: float, look: Callable[[], None] = lambda: None) -> float:
    """Activates a model and waits until the server answers with it, `look`ing meanwhile; returns the seconds. Raises RuntimeError."""
    start_s = time.monotonic()
    with grpc.insecure_channel(server.address) as channel:
        models: Any = ModelServiceStub(channel)  # type: ignore[arg-type]  # the stubs know asyncio's channels alone
        models.ActivateModel(ActivateModelRequest(version=version), timeout=CALL_WAIT_S_MAX)
        while not models.GetModel(GetModelRequest(version=version), timeout=CALL_WAIT_S_MAX).model.loaded:
            look()
            if time.monotonic() - start_s > wait_s:
                raise RuntimeError(f"the model was not swapped within {wait_s:.0f} s")
            time.sleep(TICK_S)
    return time.monotonic() - start_s


def two_versions(context: Context) -> tuple[str, str]:
    """The active model's version, and that of the same files under another name."""
    settings = context.system.settings
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        row = connection.execute("select version from models where state = 'active'").fetchone()
        assert row is not None, "the bench has published a model"
        first = str(row[0]).removesuffix(SUFFIX)
        again = first + SUFFIX
        _link(settings.models_dir, first, again)
        connection.execute(
            """insert into models (version, state, create_time, metrics, item_count, event_count, size_bytes, has_ranker, note)
            select %s, 'published', create_time, metrics, item_count, event_count, size_bytes, has_ranker, note from models
            where version = %s on conflict do nothing""",
            (again, first),
        )
    return first, again


def _link(models_dir: Path, first: str, again: str) -> None:
    source, target = models_dir / first, models_dir / again
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in source.iterdir():
        if file.name != MANIFEST_FILE:
            os.link(file, target / file.name)
    manifest = replace(bundle.manifest_of(source), version=again)
    (target / MANIFEST_FILE).write_bytes(manifest.to_json())


def _size_bytes(context: Context, version: str) -> int:
    manifest = context.system.settings.models_dir / version / MANIFEST_FILE
    entries = json.loads(manifest.read_bytes())["arrays"].values()
    return sum(entry["bytes"] for entry in entries)
