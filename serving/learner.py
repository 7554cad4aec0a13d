"""What new items learn from their first events: whoever touches one draws its vector towards his own.

Now and then Postgres is asked for the events of the live items since the look before, Redis for the profiles of those who
made them; their vectors are the loaded model's, so that nothing of this is stored, and a restart or a swap begins with the events
since the model was trained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.exceptions import RedisError

from profiles.codec import Profile, ProfileDamagedError, decode
from profiles.signals import signal_of
from profiles.store import profile_key
from runtime.clock import Clock
from runtime.errors import RecoError
from runtime.postgres import Pool, postgres_errors
from runtime.redis_reader import Reader
from serving import limits
from serving.background import LAST_NICE, Background
from serving.live_items import LiveItems, LiveTable
from serving.model import LoadedModel
from serving.model_store import ModelStore
from vectorizer import Workspace, vectorize
from vectorizer.content import EVENT_CONFIDENCE, learnt_vector
from vectorizer.signals import SIGNAL_WEIGHTS

# The days are those that such events can be of: entries and acceptances are told by clocks that differ a little, and what is from
# before there were days has the first one. Not prepared (see below), so that the other days' partitions are neither planned nor
# locked: there are hundreds of them and their indexes, and a server has some thousands of locks.
_EVENTS = """select item_key, subject, type, coalesce(value, 0) from events
  where accept_time >= to_timestamp(%(since_s)s) and item_key = any(%(keys)s)
    and (day >= (to_timestamp(%(since_s)s) at time zone 'UTC')::date - 1 or day < '1970-01-02')
  order by accept_time desc limit %(count_max)s"""

Float32 = NDArray[np.float32]
Touches = dict[str, float]  # by subject: the weight of the strongest of its events, the newest subject last


@dataclass(frozen=True)
class Lesson:
    """What one item is to learn from: profiles (k) of those who touched it, and the weights of their events."""

    key: int
    expected: Float32  # (d,) float32
    profiles: Sequence[Profile]
    weights: Float32  # (k,) float32


class Learner:
    """Call `look` every LEARN_PERIOD_S, on the event loop. Stores that are away are asked again by the next look."""

    def __init__(self, pool: Pool, redis: Reader, live: LiveItems, models: ModelStore, clock: Clock) -> None:
        self._pool, self._redis, self._live, self._models, self._clock = pool, redis, live, models, clock
        self._background = Background("learner", LAST_NICE)
        self._version = ""
        self._since_s = 0.0
        self._touches: dict[int, Touches] = {}  # by item key; of live items alone

    async def look(self) -> int:
        """Looks once; how many items have learnt something."""
        model = self._models.current
        table = self._live.of(model)
        if model is None or table is None or not table.size:
            return 0
        if model.version != self._version:
            self._version, self._touches = model.version, {}
            self._since_s = float(model.arrays.params.get("trained_until_s", 0.0))
        try:
            changed = await self._read_events(table)
            lessons = [lesson for key in changed if (lesson := await self._lesson(key, table))]
        except (RecoError, RedisError, OSError) as error:
            self._version = ""  # what was read and not learnt is read again
            structlog.get_logger().warning(
                "new items can't learn for now", error=f"{type(error).__name__}: {error}"
            )
            return 0
        learnt = await self._background.run(_learn, lessons, model)
        for key, vector in learnt:
            table.learn(key, vector)
        return len(learnt)

    async def _read_events(self, table: LiveTable) -> list[int]:
        """The keys of items that somebody new has touched."""
        now_s = self._clock.time_s()
        keys = table.keys.tolist()
        for key in self._touches.keys() - set(keys):
            del self._touches[key]
        async with asyncio.timeout(limits.FOLLOW_S_MAX):
            with postgres_errors():
                async with self._pool.connection() as connection:
                    given = {"since_s": self._since_s, "keys": keys, "count_max": limits.LEARN_EVENTS_MAX}
                    rows = await (await connection.execute(_EVENTS, given, prepare=False)).fetchall()
        # Events are committed some time after they were accepted; who is there already is passed over.
        self._since_s = max(self._since_s, now_s - limits.LEARN_OVERLAP_S)
        return list(dict.fromkeys(row[0] for row in reversed(rows) if self._takes(row)))

    def _takes(self, row: tuple[Any, ...]) -> bool:
        key, subject, kind, value = row
        weight = float(SIGNAL_WEIGHTS[signal_of(kind, value)])
        touches = self._touches.setdefault(key, {})
        if weight <= touches.get(subject, 0.0):
            return False
        touches.pop(subject, None)
        touches[subject] = weight
        if len(touches) > limits.LEARN_USERS_MAX:
            del touches[next(iter(touches))]
        return True

    async def _lesson(self, key: int, table: LiveTable) -> Lesson | None:
        expected, touches = table.expected_of(key), self._touches[key]
        if expected is None or not touches:
            return None
        until_s = asyncio.get_running_loop().time() + limits.FOLLOW_S_MAX
        values = await self._redis.get_all([profile_key(subject) for subject in touches], until_s)
        found = [(_decoded(value), weight) for value, weight in zip(values, touches.values(), strict=True)]
        known = [(profile, weight) for profile, weight in found if profile is not None]
        weights = np.array([weight for _, weight in known], dtype=np.float32)
        return Lesson(key, expected, [profile for profile, _ in known], weights)


def _decoded(value: bytes | None) -> Profile | None:
    try:
        return decode(value) if value else None
    except ProfileDamagedError:
        return None


def _learn(lessons: Sequence[Lesson], model: LoadedModel) -> list[tuple[int, Float32]]:
    """(key, vector) of each item. For a thread: with a workspace of its own."""
    content = model.content
    if not lessons or content is None:
        return []
    workspace, found = Workspace(model.arrays), []
    for lesson in lessons:
        vectors = [
            vectorize(model.rows_of(each.keys), each.codes, each.times, model.arrays, workspace)
            for each in lesson.profiles
        ]
        said = [at for at, vector in enumerate(vectors) if vector.any()]
        if said:
            users, weights = np.stack([vectors[at] for at in said]), EVENT_CONFIDENCE * lesson.weights[said]
            found.append((lesson.key, learnt_vector(lesson.expected, content.user_gram, users, weights)))
    return found
