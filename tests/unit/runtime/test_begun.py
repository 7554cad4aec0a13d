"""A coroutine that has begun is the same coroutine: its result, its errors and its cancellation."""

from __future__ import annotations

import asyncio

import pytest

from runtime.begun import Begun


async def test_begun_when_it_waits_has_run_to_there_before_anyone_awaits() -> None:
    steps: list[str] = []
    opened = asyncio.Event()

    async def work() -> int:
        steps.append("began")
        await opened.wait()
        await asyncio.sleep(0)
        return 7

    begun = Begun(work())
    assert steps == ["began"]
    opened.set()
    assert await begun == 7


async def test_begun_when_it_never_waits_gives_its_result() -> None:
    async def work() -> str:
        return "at once"

    assert await Begun(work()) == "at once"


async def test_begun_when_it_fails_raises_where_it_is_awaited_or_at_once() -> None:
    async def late() -> None:
        await asyncio.sleep(0)
        raise KeyError("late")

    async def early() -> None:
        raise KeyError("early")

    begun = Begun(late())
    with pytest.raises(KeyError, match="late"):
        await begun
    with pytest.raises(KeyError, match="early"):
        Begun(early())


async def test_begun_when_its_caller_is_cancelled_is_told_so() -> None:
    seen: list[str] = []
    started = asyncio.Event()
    forever = asyncio.Event()

    async def work() -> None:
        try:
            await forever.wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def caller() -> None:
        begun = Begun(work())
        seen.append("began")
        started.set()
        await begun

    task = asyncio.create_task(caller())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["began", "cancelled"]


async def test_begun_when_a_time_limit_ends_it_lets_it_answer_otherwise() -> None:
    forever = asyncio.Event()

    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await forever.wait()
        except TimeoutError:
            return "without"
        return "with"

    begun = Begun(work())
    assert await begun == "without"
