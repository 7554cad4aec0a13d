"""Closed loops: each caller sends its next call when it has the answer to the last. They show throughput, and the cost of a call.

They do not show how long callers wait under load: a server that stands still is asked nothing meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from bench.load.answer import Answer, Caller
from bench.load.limits import CALLS_MAX, DRAIN_S, TIMEOUT_S
from bench.load.recording import UNFINISHED, Recording

PAUSE_S = 0.01  # after a failed call, so that a target that is gone is not asked in a spin


async def run(
    caller: Caller, callers: int, seconds: float, warm_up_s: float, user_count: int, seed: int,
    timeout_s: float = TIMEOUT_S,
) -> Recording:  # fmt: skip
    """`callers` at once, until `seconds` after the warm-up are over."""
    record = Recording()
    record.first_s = perf_counter() + warm_up_s
    end_s = record.first_s + seconds
    rngs = np.random.default_rng(seed).spawn(callers)
    tasks = [
        asyncio.create_task(_repeat(caller, record, end_s, rng.integers(0, user_count, 4_096).tolist()))
        for rng in rngs
    ]
    await _bounded(tasks, warm_up_s + seconds + timeout_s + DRAIN_S)
    return record


async def run_interleaved(
    callers: Sequence[Caller], calls: int, warm_up_calls: int, user_count: int, seed: int
) -> list[Recording]:
    """One call to each in turn, `calls` times each: whatever the machine does meanwhile, it does to all of them."""
    if not 0 < calls + warm_up_calls <= CALLS_MAX:
        raise ValueError(f"an interleaved run has 1 to {CALLS_MAX:,} calls of each target")
    records = [Recording() for _ in callers]
    users = np.random.default_rng(seed).integers(0, user_count, warm_up_calls + calls).tolist()
    for number, user in enumerate(users):
        if number == warm_up_calls:
            for record in records:
                record.first_s = perf_counter()
        for caller, record in zip(callers, records, strict=True):
            await _once(caller, record, user, number >= warm_up_calls)
    return records


async def _bounded(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*tasks)
    except TimeoutError:  # gather has cancelled them; each counts its call
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(caller: Caller, record: Recording, end_s: float, users: list[int]) -> None:
    number = 0
    while (now_s := perf_counter()) < end_s:
        await _once(caller, record, users[number % len(users)], now_s >= record.first_s)
        number += 1


async def _once(caller: Caller, record: Recording, user: int, is_counted: bool) -> None:
    record.enter()
    start_s = perf_counter()
    try:
        answer = await caller.call(user)
    except asyncio.CancelledError:
        answer = Answer(UNFINISHED, perf_counter(), "")
        raise
    finally:
        record.leave()
        if is_counted:
            record.ended(start_s, answer)
    if answer.status != "OK":
        await asyncio.sleep(PAUSE_S)
