"""A connection through the front, its bytes cut anywhere: what the server gets, what the client gets."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from runtime import frames
from runtime.front import Client, Door, Server
from runtime.limiter import Bounds, Limiter

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RANKING = b"\x83\x86" + frames.literal(b":path", b"/reco.ranking.v1.RankingService/Recommend")
HEALTH = b"\x83\x86" + frames.literal(b":path", b"/grpc.health.v1.Health/Check")
REFUSAL = b"a block"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.head(len(payload), kind, flags, stream) + payload


def call(stream: int, block: bytes = RANKING, body: bytes = b"request") -> bytes:
    return frame(frames.HEADERS, frames.END_HEADERS, stream, block) + frame(
        frames.DATA, frames.END_STREAM, stream, body
    )


def answer(stream: int) -> bytes:
    head = frame(frames.HEADERS, frames.END_HEADERS, stream, b"\x88") + frame(
        frames.DATA, 0, stream, b"answer"
    )
    return head + frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, b"trailers")


SETTINGS, ACK = frame(frames.SETTINGS, 0, 0), frame(frames.SETTINGS, frames.ACK, 0)
# A client that knows of the missing table, and has an answer: from here on calls may be refused.
OPENING = PREFACE + SETTINGS + ACK + call(1)


class Pipe:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written, self.is_paused, self.closed = b"", False, False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, chunks: list[bytes]) -> None:
        self.written += b"".join(chunks)

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Connection:
    """A client's side, a server's side, and their pipes; a limiter with room for `room` calls that wait."""

    def __init__(self, room: int, is_connected: bool = True) -> None:
        self.limiter = Limiter(Bounds(waiting_min=1, waiting_first=room, waiting_max=room))
        self.refusals: list[bool] = []
        door = Door(self.limiter, REFUSAL, "", lambda: 0.0, self.refusals.append)
        self.client = Client(door)
        self.server: Server = self.client._server
        self.to_client, self.to_server = Pipe(), Pipe()
        self.client.transport = cast(asyncio.Transport, self.to_client)
        if is_connected:
            self.server.connection_made(cast(Any, self.to_server))

    def send(self, data: bytes, cuts: list[int]) -> None:
        deliver(self.client.data_received, data, cuts)

    def reply(self, data: bytes, cuts: list[int]) -> None:
        deliver(self.server.data_received, data, cuts)


def deliver(receive: Any, data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        if end > start:
            receive(data[start:end])


async def opened(room: int, cuts: list[int] | None = None) -> Connection:
    connection = Connection(room)
    connection.send(OPENING, cuts or [])
    connection.reply(SETTINGS + answer(1), cuts or [])
    connection.to_client.written = connection.to_server.written = b""
    return connection


def refusals(*streams: int) -> bytes:
    flags = frames.END_HEADERS | frames.END_STREAM
    return b"".join(frame(frames.HEADERS, flags, stream, REFUSAL) for stream in streams)


CUTS = st.lists(st.integers(0, 2_000), max_size=12)


@given(CUTS, CUTS)
def test_bytes_when_nobody_is_refused_pass_as_they_came(cuts: list[int], answer_cuts: list[int]) -> None:
    async def scene() -> None:
        connection = Connection(room=100)
        sent = OPENING + b"".join(call(stream, body=b"x" * stream * 30) for stream in (3, 5, 7))
        replied = SETTINGS + b"".join(answer(stream) for stream in (1, 5, 3, 7))
        connection.send(sent, cuts)
        assert connection.limiter.open_count == 4
        connection.reply(replied, answer_cuts)
        assert (connection.to_server.written, connection.to_client.written) == (sent, replied)
        assert connection.limiter.open_count == 0

    asyncio.run(scene())


@given(CUTS, CUTS)
def test_calls_when_no_room_is_left_are_answered_here_and_go_no_further(
    opening_cuts: list[int], cuts: list[int]
) -> None:
    async def scene() -> None:
        connection = await opened(room=1, cuts=opening_cuts)
        body = b"y" * 400
        sent = [call(3), call(5, body=body), call(7, HEALTH), call(9, body=body), frame(6, 0, 0, b"12345678")]
        connection.send(b"".join(sent), cuts)
        assert connection.to_server.written == sent[0] + sent[2] + sent[4]
        written = connection.to_client.written
        credit = sum(
            struct.unpack(">I", written[place + 9 : place + 13])[0]
            for place in range(len(written))
            if written[place : place + 9] == frames.head(4, frames.WINDOW_UPDATE, 0, 0)
        )
        assert refusals(5) in written
        assert refusals(9) in written
        assert credit in (0, len(body), 2 * len(body))  # the rest goes with the next refusal
        assert connection.refusals == [False, False]
        assert connection.to_client.is_paused
        connection.reply(answer(3), [])
        assert connection.limiter.open_count == 0

    asyncio.run(scene())


async def test_call_when_it_may_be_shed_leaves_room_for_others() -> None:
    connection = await opened(room=4)
    for stream in (3, 5):
        connection.send(call(stream), [])
    connection.send(call(7, RANKING + b"\x00\x0d" + frames.SHEDDABLE[0]), [])
    connection.send(call(9), [])
    assert connection.to_client.written == refusals(7) + frames.window_update(len(b"request"))
    assert connection.refusals == [True]


async def test_call_when_the_client_may_still_use_a_table_is_not_refused() -> None:
    connection = Connection(room=1)
    connection.send(PREFACE + SETTINGS, [])
    connection.reply(SETTINGS + answer(1), [])
    for stream in (3, 5, 7):
        connection.send(call(stream), [])
    assert not connection.refusals
    connection.send(ACK + call(9), [])  # the first after it may have to tell the decoder
    assert not connection.refusals
    connection.send(call(11), [])
    assert connection.refusals == [False]


async def test_call_when_the_client_has_changed_its_settings_waits_for_a_block_of_the_servers() -> None:
    connection = await opened(room=1)
    connection.send(call(3) + SETTINGS + call(5), [])
    assert not connection.refusals
    connection.reply(answer(3), [])
    connection.send(call(7), [])
    assert connection.refusals == [False]


async def test_refusal_when_the_server_is_amid_a_frame_waits_for_its_end() -> None:
    connection = await opened(room=1)
    whole = answer(3)
    connection.send(call(3), [])
    connection.reply(whole[:20], [])
    connection.send(call(5), [])
    assert connection.to_client.written == whole[:20]
    connection.reply(whole[20:], [])
    assert connection.to_client.written.startswith(whole + refusals(5))


async def test_call_when_its_caller_gives_it_up_is_no_longer_counted() -> None:
    connection = await opened(room=8)
    connection.send(call(3) + frame(frames.RST_STREAM, 0, 3, b"\0\0\0\x08"), [])
    assert connection.limiter.open_count == 0
    connection.send(call(5) + call(7), [])
    connection.client.connection_lost(None)
    assert connection.limiter.open_count == 0
    assert connection.to_server.closed


async def test_bytes_when_the_server_is_not_connected_yet_wait_and_no_more_are_read() -> None:
    connection = Connection(room=8, is_connected=False)
    connection.send(OPENING, [])
    assert connection.to_client.is_paused
    connection.server.connection_made(cast(Any, connection.to_server))
    assert connection.to_server.written == OPENING
    assert not connection.to_client.is_paused


async def test_client_when_it_ends_none_of_its_refused_requests_is_cut_off() -> None:
    connection = await opened(room=1)
    connection.send(call(3), [])
    for number in range(1_001):
        connection.send(frame(frames.HEADERS, frames.END_HEADERS, 5 + 2 * number, RANKING), [])
    assert connection.to_client.closed


async def test_side_when_the_other_is_slow_is_not_read_from() -> None:
    connection = await opened(room=8)
    connection.client.pause_writing()
    assert connection.to_server.is_paused
    connection.client.resume_writing()
    connection.server.pause_writing()
    assert (connection.to_server.is_paused, connection.to_client.is_paused) == (False, True)
    connection.server.resume_writing()
    assert not connection.to_client.is_paused
