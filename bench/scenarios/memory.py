"""Memory: of an item, of a user, of a second process. And how soon a process is ready."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.generate.attributes import user_id
from bench.options import Options
from bench.processes import proportional_bytes, resident_bytes
from bench.scenarios.context import Context, Found
from bench.sharing import ask
from bench.system import running
from profiles.limits import RING_EVENTS_MAX
from profiles.store import profile_key
from profiles.subjects import subject_of

SMALL_ITEMS, SMALL_USERS = 1_000, 100  # what a process takes that has next to nothing to hold
USERS_ASKED_MAX = 200


def users(context: Context) -> Found:
    """Bytes of users whose ring is full, as Valkey counts them; the largest of them is the figure."""
    counts = np.diff(context.system.dataset.events.offsets)
    full = np.flatnonzero(counts >= RING_EVENTS_MAX)[:USERS_ASKED_MAX]
    with context.system.redis() as redis:
        keys = [profile_key(subject_of(user_id(int(user)), "")) for user in full]
        found = [int(redis.memory_usage(key, samples=0)) for key in keys]
    details = {"users": len(found), "mean": float(np.mean(found)) if found else None}
    return Found({"user_bytes": max(found, default=None)}, details)


def second_process(context: Context) -> Found:
    """What a second process of a pod adds, over what one takes alone: two that are forked, as RECO_RANKING_PROCESSES has
    it, and their parent. Shared pages count once. For comparison two that were started by themselves.
    """
    users, cores = context.system.options.users, {context.serving_core}
    with context.system.serving(cores) as first:
        ask(first, users)
        alone = proportional_bytes(first.pids)
        with context.system.serving(cores) as second:
            ask(second, users)
            started = proportional_bytes([*first.pids, *second.pids])
    with context.system.serving(cores, RECO_RANKING_PROCESSES="2") as pair:
        ask(pair, users)
        forked = proportional_bytes(pair.pids)
    details = {
        "first_bytes": alone,
        "forked_bytes": forked,
        "started_bytes": started,
        "started_share": (started - alone) / alone,
    }
    return Found({"second_process_share": (forked - alone) / alone}, details)


def items(context: Context, server_bytes: int, cache: Path) -> Found:
    """Resident bytes of an item: what a process has in memory beyond one with a thousand items."""
    options = context.system.options
    small = Options(SMALL_ITEMS, options.factors, SMALL_USERS, options.norms, options.seed)
    with running(small, cache) as system:
        with system.serving({context.serving_core}):
            system.wait_for_snapshot()
        with system.serving({context.serving_core}) as server:
            small_bytes = resident_bytes(server.pids)
    count = context.system.dataset.model.item_count
    more = count - SMALL_ITEMS
    details = {
        "process_bytes": server_bytes,
        "small_process_bytes": small_bytes,
        "undiminished": server_bytes / count,
    }
    return Found({"item_bytes": (server_bytes - small_bytes) / more if more > 0 else None}, details)
