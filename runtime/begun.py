"""A coroutine that runs at once up to where it first waits, so that its caller can work while it does."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Begun(Generic[T]):
    """In the caller's own task, unlike `create_task`, which begins later and costs a turn of the loop. Await it once."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._result: T
        self._is_done = False
        try:
            self._waits_for: Any = coroutine.send(None)
        except StopIteration as end:
            self._is_done, self._result = True, end.value

    def __await__(self) -> Generator[Any, Any, T]:
        if self._is_done:
            return self._result
        waits_for = self._waits_for
        while True:
            try:
                go_on = partial(self._coroutine.send, (yield waits_for))
            except BaseException as error:  # cancelled, for one: that is for the coroutine to see
                go_on = partial(self._coroutine.throw, error)
            try:
                waits_for = go_on()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
