"""What of HTTP/2 (RFC 9113) and its header compression (RFC 7541) is needed to look at a gRPC connection and to refuse a call on it."""

from __future__ import annotations

import base64
import struct
from typing import Final
from urllib.parse import quote

from google.rpc import status_pb2

PREFACE_BYTES: Final = 24  # "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", before a client's first frame
HEAD_BYTES: Final = 9  # of each frame: length (3), type, flags, stream (4)
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 8, 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
STATUS_200: Final = b"\x88"  # ":status: 200" of the static table
LENGTH_BYTE_MAX: Final = 126  # of a text's length; from 127 on it continues in further bytes

# As text and in HPACK's Huffman code, either of which a client may choose. The path's beginning is left without its last, broken byte.
RANKING: Final = (
    b"/reco.ranking.v1.RankingService/",
    bytes.fromhex("62c290ebd83aba9aa997ee15f68eaea6aa6dc5b3b98856"),
)
_PRIORITY = (b"reco-priority", bytes.fromhex("b0a43ad5d863d864fa"))
_SHEDDABLE = (
    b"\x09sheddable",
    b"\x87" + bytes.fromhex("44e59241c7417f"),
)  # with the length that stands before
SHEDDABLE: Final = tuple(name + value for name in _PRIORITY for value in _SHEDDABLE)


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before a frame's payload of `length` bytes."""
    return struct.pack(">I", length)[1:] + bytes((kind, flags)) + struct.pack(">I", stream)


def window_update(count: int) -> bytes:
    """Gives `count` bytes back to the connection's window."""
    return head(4, WINDOW_UPDATE, 0, 0) + struct.pack(">I", count)


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that neither side's table remembers."""
    return b"\x00" + _length(name) + name + _length(value) + value


def refusal_block(status: status_pb2.Status) -> bytes:
    """A header block that is a whole answer: `status` with its details, as gRPC over HTTP/2 writes it."""
    details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
    fields = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", str(status.code).encode()),
        (b"grpc-message", quote(status.message, safe=" ,;:/()").encode()),
        (b"grpc-status-details-bin", details),
    )
    return STATUS_200 + b"".join(literal(*field) for field in fields)


def _length(text: bytes) -> bytes:
    """An integer of a seven-bit prefix, RFC 7541 section 5.1."""
    if len(text) <= LENGTH_BYTE_MAX:
        return bytes((len(text),))
    rest, found = len(text) - 127, bytearray((127,))
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes((*found, rest))
