"""The open loop: each call goes out at its time, whether or not earlier ones have been answered.

Latency counts from the time a call was due. A server that stands still for 200 ms is thus seen by every call that was due
meanwhile, as by its real callers, who do not wait for each other (Tene: "coordinated omission").
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from bench.load import timer
from bench.load.answer import Answer, Caller
from bench.load.limits import DRAIN_S, IN_FLIGHT_MAX, TIMEOUT_S
from bench.load.recording import UNFINISHED, Recording
from bench.load.schedule import Schedule

HEAD_START_S = 0.05  # until the first call is due: everything is set up by then


async def run(
    schedule: Schedule, caller: Caller, in_flight_max: int = IN_FLIGHT_MAX, timeout_s: float = TIMEOUT_S
) -> Recording:
    """One run. Ends within the schedule plus `timeout_s` plus DRAIN_S, whatever the target does."""
    loop = _OpenLoop(schedule, caller, in_flight_max)
    try:
        async with asyncio.timeout(schedule.warm_up_s + schedule.seconds + timeout_s + DRAIN_S):
            await loop.over.wait()
    except TimeoutError:
        await loop.cancel()
    finally:
        loop.timer.close()
    return loop.record


class _OpenLoop:
    def __init__(self, schedule: Schedule, caller: Caller, in_flight_max: int) -> None:
        start_s = perf_counter() + HEAD_START_S
        self._due_s = [start_s + at_s for at_s in schedule.times_s.tolist()]
        self._users = schedule.users.tolist()
        self._counted_s = start_s + schedule.warm_up_s
        self._caller, self._in_flight_max = caller, in_flight_max
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.record = Recording()
        self.record.first_s = self._counted_s
        self.over = asyncio.Event()
        self.timer = timer.make(self._send_due)
        self._arm()

    async def cancel(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _arm(self) -> None:
        if self._next < len(self._due_s):
            self.timer.arm(self._due_s[self._next])
        elif not self._tasks:
            self.over.set()

    def _send_due(self) -> None:
        now_s = perf_counter()
        while self._next < len(self._due_s) and self._due_s[self._next] <= now_s:
            self._send(self._next)
            self._next += 1
        self._arm()

    def _send(self, number: int) -> None:
        if len(self._tasks) >= self._in_flight_max:
            if self._due_s[number] >= self._counted_s:
                self.record.unsent()
            return
        task = asyncio.get_running_loop().create_task(self._call(self._due_s[number], self._users[number]))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks and self._next == len(self._due_s):
            self.over.set()
        if not task.cancelled():
            task.result()  # an error of ours is not to be lost

    async def _call(self, due_s: float, user: int) -> None:
        record, is_counted = self.record, due_s >= self._counted_s
        record.enter()
        sent_s = perf_counter()
        try:
            answer = await self._caller.call(user)
        except asyncio.CancelledError:
            answer = Answer(UNFINISHED, perf_counter(), "")
        finally:
            record.leave()
        if is_counted:
            record.sent(due_s, sent_s)
            record.ended(due_s, answer)
