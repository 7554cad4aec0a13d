"""What a client of any protocol gives back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

OK = "OK"
TIMED_OUT = "DEADLINE_EXCEEDED"
UNAVAILABLE = "UNAVAILABLE"


class Answer(NamedTuple):
    """One call's end. Its content is not looked at."""

    status: str  # OK, a gRPC code's name, or HTTP_500 and the like
    end_s: float  # perf_counter's, when the whole answer had come
    server_timing: str  # the text of the header, empty where there is none


class Caller(Protocol):
    """Calls one target, any number of times at once."""

    async def call(self, user: int) -> Answer:
        """The answer for the user of this number; errors of the target are statuses, never raised."""

    async def close(self) -> None:
        """Closes the connections."""
