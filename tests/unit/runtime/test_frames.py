"""The pieces of HTTP/2 that the front writes and looks for."""

from __future__ import annotations

import base64
from urllib.parse import unquote

import pytest
from google.rpc import error_details_pb2, status_pb2

from runtime import frames, fronted
from runtime.errors import to_status

# RFC 7541, appendix B, of the letters that are needed.
HUFFMAN = {
    "-": "010110", ".": "010111", "/": "011000", "1": "00001", "R": "1101101", "S": "1101110", "a": "00011", "b": "100011",
    "c": "00100", "d": "100100", "e": "00101", "g": "100110", "h": "100111", "i": "00110", "k": "1110101", "l": "101000",
    "n": "101010", "o": "00111", "p": "101011", "r": "101100", "s": "01000", "t": "01001", "v": "1110111", "y": "1111010",
}  # fmt: skip


def huffman(text: str) -> bytes:
    bits = "".join(HUFFMAN[letter] for letter in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def fields_of(block: bytes) -> dict[bytes, bytes]:
    """Reads back what `literal` writes."""
    found, place = {}, 0

    def text() -> bytes:
        nonlocal place
        length, place = block[place], place + 1
        shift = 0
        while length >= 127:
            more, place = block[place], place + 1
            length, shift = length + ((more & 127) << shift), shift + 7
            if more < 128:
                break
        place += length
        return block[place - length : place]

    while place < len(block):
        assert block[place] == 0
        place += 1
        name = text()
        found[name] = text()
    return found


def test_path_when_compressed_begins_with_the_known_bytes() -> None:
    assert huffman("/reco.ranking.v1.RankingService/").startswith(frames.RANKING[1])
    assert len(huffman("/reco.ranking.v1.RankingService/")) == len(frames.RANKING[1]) + 1


@pytest.mark.parametrize("name", [b"reco-priority", huffman("reco-priority")])
@pytest.mark.parametrize("value", [b"\x09sheddable", bytes((128 + 7,)) + huffman("sheddable")])
def test_priority_when_in_either_code_is_among_what_is_looked_for(name: bytes, value: bytes) -> None:
    assert name + value in frames.SHEDDABLE


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 300, 20_000])
def test_literal_when_read_back_is_the_same(length: int) -> None:
    assert fields_of(frames.literal(b"name", b"v" * length)) == {b"name": b"v" * length}


def test_refusal_when_read_back_says_when_to_retry() -> None:
    block = frames.refusal_block(to_status(fronted.overloaded()))
    assert block[:1] == frames.STATUS_200
    fields = fields_of(block[1:])
    assert fields[b"grpc-status"] == b"8"
    assert "retry after 1000 ms" in unquote(fields[b"grpc-message"].decode())
    details = fields[b"grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + b"=" * (-len(details) % 4)))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, dict(info.metadata)) == ("OVERLOADED", {"retry_delay_ms": "1000"})
    assert retry.retry_delay.ToMilliseconds() == 1000
