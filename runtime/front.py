"""Before gRPC's own server, in the same process: passes its connections on, and refuses calls at the door when too many wait.

A refusal by grpc.aio costs a quarter of a recommendation, one by gRPC's core is cheaper but says CANCELLED and nothing more. Here
it is a prepared frame that costs some microseconds (docs/decisions/0013-overload.md).

Frames are only looked at: bytes pass as they came, but for the frames of refused calls, which go no further. So that a header
block can be left out the server's decoder keeps no table (`NO_TABLE`), and calls of a connection are refused only once its
client has heard of that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from runtime import frames
from runtime.frames import DATA, HEAD_BYTES, HEADERS, RST_STREAM
from runtime.limiter import Limiter

NO_TABLE: Final = ("grpc.http2.hpack_table_size.decoder", 0)  # an option of gRPC's server
# While calls are refused, a connection is read only so often: one look then takes in many. Less than the limiter lets a call wait.
READ_PAUSE_S: Final = 0.004
HEADERS_BYTES_MAX: Final = 16_384  # in one frame, by default; of a longer one no more is read than its head
UNENDED_MAX: Final = (
    1_000  # refused calls whose requests go on; a client that keeps more of them open is cut off
)
CLOSE_S_MAX: Final = 1.0  # for connections to end after the server has
BY_LIMIT, BY_SERVER = 1, 2  # why a client is not read from


@dataclass(frozen=True)
class Door:
    """What all connections have in common."""

    limiter: Limiter
    refusal: bytes  # the header block of a refusal, see frames.refusal_block
    socket_path: str  # where gRPC's server listens
    clock: Callable[[], float]
    on_refusal: Callable[[bool], None]  # is told whether the refused call could be shed
    clients: set[Client] = field(default_factory=set)

    def client(self) -> Client:
        """A connection, for asyncio's `create_server`."""
        return Client(self)

    async def close(self) -> None:
        """Cuts off who is still there, and waits for the end of it."""
        for client in tuple(self.clients):
            client.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                while self.clients:  # noqa: ASYNC110 -- the transports say so one by one, in the next rounds of the loop
                    await asyncio.sleep(0)


class Client(asyncio.Protocol):
    """The side of a connection that faces the client."""

    def __init__(self, door: Door) -> None:
        self._door, self._limiter = door, door.limiter
        self._server = Server(self)
        self._left = frames.PREFACE_BYTES  # of the frame under way
        self._is_dropping = False  # the frame under way
        self._rest = b""  # of the last chunk: a beginning that can't be judged yet
        self._counted: set[int] = set()  # streams that the limiter knows
        self._refused: set[int] = set()  # streams that were refused and go on
        self._last_stream = 0
        self._has_heard = False  # the client knows that there is no table ...
        self._is_clean = False  # ... and the server has read a block without one since
        self._answers: list[bytes] = []
        self._credit = 0  # bytes of refused requests, to be given back to the connection's window
        self._holds = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._door.clients.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: self._server, self._door.socket_path
            )
        except OSError:  # the server is stopping, or there are no descriptors left
            self.transport.close()

    def hold(self, why: int) -> None:
        """Reads no more until `release` is called for the same reason."""
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= why

    def release(self, why: int) -> None:
        """Undoes `hold`."""
        held, self._holds = self._holds, self._holds & ~why
        if held and not self._holds and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._server.hold()

    def resume_writing(self) -> None:
        self._server.release()

    def connection_lost(self, exc: Exception | None) -> None:
        while self._counted:
            self.ended(next(iter(self._counted)))
        self._server.end()
        self.leave()

    def leave(self) -> None:
        """Both sides have ended."""
        if self._server.has_ended and self.transport.is_closing():
            self._door.clients.discard(self)

    def ended(self, stream: int) -> None:
        """The call on `stream` is over."""
        if stream in self._counted:
            self._counted.remove(stream)
            self._limiter.close()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        start, place = self._go_on(data)  # where what passes starts, and where the next frame begins
        size = len(data)
        while size - place >= HEAD_BYTES:
            kind, flags = data[place + 3], data[place + 4]
            length = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
            end = place + HEAD_BYTES + length
            if kind == HEADERS and end > size and length <= HEADERS_BYTES_MAX:
                break  # it is judged when it is whole
            stream = int.from_bytes(data[place + 5 : place + HEAD_BYTES], "big")
            if self._drops(kind, flags, stream, data, place, end):
                self._pass(data, start, place)
                start = end
            place = end
        self._pass(data, start, min(place, size))
        if place > size:
            self._left, self._is_dropping = place - size, start == place
        self._rest = data[place:]
        self.answer()

    def _go_on(self, data: bytes) -> tuple[int, int]:
        here = min(self._left, len(data))
        self._left -= here
        return (here if self._is_dropping else 0), here

    def _pass(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._server.write(data if end - start == len(data) else data[start:end])

    def _drops(self, kind: int, flags: int, stream: int, data: bytes, place: int, end: int) -> bool:
        """Whether a frame goes no further."""
        if stream in self._refused:
            if kind == DATA:
                self._credit += end - place - HEAD_BYTES
            if kind == RST_STREAM or (kind <= HEADERS and flags & frames.END_STREAM):
                self._refused.remove(stream)
            return True
        if kind == HEADERS and stream > self._last_stream:
            self._last_stream = stream
            return not self._comes_in(flags, stream, data, place, end)
        if kind == RST_STREAM:
            self.ended(stream)
        elif kind == frames.SETTINGS:
            self._settle(flags)
        return False

    def _settle(self, flags: int) -> None:
        if flags & frames.ACK:
            self._has_heard = True
        else:  # a change of its table's size has to open the next block that it gets, and that may not be ours
            self._server.has_answered = False

    def _comes_in(self, flags: int, stream: int, data: bytes, place: int, end: int) -> bool:
        """Whether a call may come in; counts it if it is one of those that the limit is for."""
        may_refuse = self._is_clean and self._server.has_answered and flags & frames.END_HEADERS
        self._is_clean = self._has_heard
        if (
            end - place - HEAD_BYTES > HEADERS_BYTES_MAX
        ):  # the server refuses it; where it was cut must not matter
            return True
        if not any(data.find(path, place, end) >= 0 for path in frames.RANKING):
            return True
        now_s = self._door.clock()
        if may_refuse:
            sheddable = any(data.find(text, place, end) >= 0 for text in frames.SHEDDABLE)
            if not self._limiter.admit(sheddable, now_s):
                self._refuse(flags, stream, sheddable)
                return False
        else:
            self._limiter.enter(now_s)
        self._counted.add(stream)
        return True

    def _refuse(self, flags: int, stream: int, sheddable: bool) -> None:
        self._door.on_refusal(sheddable)
        block, ends = self._door.refusal, frames.END_HEADERS | frames.END_STREAM
        self._answers.append(frames.head(len(block), HEADERS, ends, stream) + block)
        if not flags & frames.END_STREAM:
            self._refused.add(stream)
            if len(self._refused) > UNENDED_MAX:
                self.transport.abort()

    def answer(self) -> None:
        """Sends the refusals, between two frames of the server's, and rests before it reads on."""
        if not self._answers or not self._server.is_between_frames:
            return
        if self._credit:
            self._answers.append(frames.window_update(self._credit))
            self._credit = 0
        self.transport.write(b"".join(self._answers))
        self._answers.clear()
        if not self._holds & BY_LIMIT:
            self.hold(BY_LIMIT)
            asyncio.get_running_loop().call_later(READ_PAUSE_S, self.release, BY_LIMIT)


class Server(asyncio.Protocol):
    """The side of a connection that faces gRPC's server."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []  # what came before the connection: one chunk, then no more is read
        self._left = 0  # of the frame under way
        self._rest = b""  # of the last chunk: a beginning of a frame's head, which has been passed on
        self._is_block_open = False
        self.is_between_frames = True
        self.has_answered = False  # with a header block, since the client's last settings
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.writelines(self._early)
        self._early.clear()
        self._client.release(BY_SERVER)
        if self._client.transport.is_closing():
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Passes on what the client sent."""
        if self._transport is not None:
            self._transport.write(data)
        else:
            self._early.append(data)
            self._client.hold(BY_SERVER)

    def hold(self) -> None:
        """Reads no more: the client is slow."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self) -> None:
        """Undoes `hold`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """The client has gone."""
        if self._transport is None:
            self.has_ended = True
        else:
            self._transport.close()

    def pause_writing(self) -> None:
        self._client.hold(BY_SERVER)

    def resume_writing(self) -> None:
        self._client.release(BY_SERVER)

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        self._client.transport.close()
        self._client.leave()

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)
        if self._rest:
            data = self._rest + data
        place, size = self._left, len(data)
        while size - place >= HEAD_BYTES:
            kind, flags = data[place + 3], data[place + 4]
            if kind == HEADERS or kind == frames.CONTINUATION:
                self.has_answered = True
                self._is_block_open = not flags & frames.END_HEADERS
            if kind == RST_STREAM or (kind <= HEADERS and flags & frames.END_STREAM):
                self._client.ended(int.from_bytes(data[place + 5 : place + HEAD_BYTES], "big"))
            place += HEAD_BYTES + (data[place] << 16 | data[place + 1] << 8 | data[place + 2])
        self._left, self._rest = max(0, place - size), data[place:]
        self.is_between_frames = not (self._left or self._rest or self._is_block_open)
        self._client.answer()
