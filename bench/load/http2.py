"""One HTTP/2 connection with gRPC calls on it, as bare frames: a call costs microseconds, so that one core can send ten times what
the server can answer. The server may keep no table of headers for us (SETTINGS_HEADER_TABLE_SIZE 0), so its statuses are plain text.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from bench.load.limits import CONNECT_S

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW_BYTES: Final = 2**31 - 1  # the protocol's largest
WINDOW_FIRST: Final = 65_535
CHUNK_BYTES: Final = 1 << 18
POST, HTTP = b"\x83", b"\x86"  # of HPACK's static table
STATUS: Final = b"grpc-status"
STATUSES: Final = {b"0": "OK", b"1": "CANCELLED", b"4": "DEADLINE_EXCEEDED", b"8": "RESOURCE_EXHAUSTED", b"14": "UNAVAILABLE"}  # fmt: skip
LOST: Final = "CONNECTION_LOST"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header_block(path: str, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """The headers of a gRPC call. Names and values of at most 126 bytes."""
    found = POST + HTTP
    common = (
        (":path", path),
        (":authority", "bench"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    for name, value in (*common, *fields):
        found += b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
    return found


def message(body: bytes) -> bytes:
    """A gRPC message, uncompressed."""
    return b"\x00" + struct.pack(">I", len(body)) + body


class Connection:
    """Calls go out with `send` and `flush`; `read` tells `on_end(stream, status)` of each that ended. Raises OSError."""

    def __init__(self, host: str, port: int, on_end: Callable[[int, str], None]) -> None:
        self.socket = socket.create_connection((host, port), CONNECT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 1, 0, 4, WINDOW_BYTES)  # no table; as much of each answer as comes
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + _update(WINDOW_BYTES - WINDOW_FIRST))
        self.socket.setblocking(False)
        self._on_end = on_end
        self._stream = -1
        self._out: list[bytes] = []
        self._in = b""
        self._received = 0
        self._open: set[int] = set()

    def send(self, block: bytes, body: bytes) -> int:
        """Puts a call in line; returns its stream."""
        self._stream += 2
        stream = self._stream
        self._out += (frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, body))
        self._open.add(stream)
        return stream

    def flush(self) -> None:
        """Sends what is in line, as far as the socket takes it."""
        if not self._out:
            return
        data = b"".join(self._out)
        sent = 0
        with suppress(BlockingIOError):
            sent = self.socket.send(data)
        self._out = [data[sent:]] if sent < len(data) else []

    def read(self) -> None:
        """Takes what has come."""
        try:
            data = self.socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._received += len(data)
        if self._received > WINDOW_BYTES // 4:
            self._out.append(_update(self._received))
            self._received = 0
        self._in = self._parse(self._in + data)

    def close(self) -> None:
        """Whoever is without an answer gets none."""
        self.socket.close()
        for stream in tuple(self._open):
            self._end(stream, LOST)

    def _parse(self, data: bytes) -> bytes:
        place, size = 0, len(data)
        while size - place >= 9:
            end = place + 9 + (data[place] << 16 | data[place + 1] << 8 | data[place + 2])
            if end > size:
                break
            self._take(data[place + 3], data[place + 4], data, place, end)
            place = end
        return data[place:]

    def _take(self, kind: int, flags: int, data: bytes, place: int, end: int) -> None:
        if (kind == HEADERS and flags & END_STREAM) or kind == RST_STREAM:
            stream = int.from_bytes(data[place + 5 : place + 9], "big")
            self._end(stream, _status(data, place + 9, end) if kind == HEADERS else "RST_STREAM")
        elif kind == SETTINGS and not flags & ACK:
            self._out.append(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, data[place + 9 : end]))

    def _end(self, stream: int, status: str) -> None:
        if stream in self._open:
            self._open.remove(stream)
            self._on_end(stream, status)


def _status(data: bytes, start: int, end: int) -> str:
    place = data.find(STATUS, start, end) + len(STATUS)
    if place < len(STATUS):
        return "NO_STATUS"
    value = data[place + 1 : place + 1 + data[place]]
    return STATUSES.get(value, value.decode("ascii", "replace"))


def _update(count: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", count))
