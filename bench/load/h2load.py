"""nghttp2's h2load as a second opinion: the same calls by a client that no one here wrote. Never required."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reco.ranking.v1.ranking_service_pb2 import RecommendRequest

from bench.load.limits import CALLERS_MAX, CONNECTIONS_MAX, SECONDS_MAX
from bench.load.target import RPCS, Target

STOP_S = 10.0  # beyond the run's seconds, until it is ended
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class MissingError(RuntimeError):
    """h2load isn't installed, or failed."""


def frame(message: bytes) -> bytes:
    """A gRPC message as it stands in an HTTP/2 body: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def run(
    target: Target, users: Sequence[str], callers: int, connections: int, seconds: float
) -> dict[str, object]:
    """A closed loop over gRPC. All calls are for the first user: h2load sends one body. Raises MissingError, ValueError."""
    if target.scheme != "grpc":
        raise ValueError("h2load is for grpc:// targets")
    if not 1 <= connections <= min(callers, CONNECTIONS_MAX) or callers > CALLERS_MAX:
        raise ValueError(f"callers are at most {CALLERS_MAX}, and connections 1 to as many as callers")
    if not 1 <= seconds <= SECONDS_MAX:
        raise ValueError(f"seconds are 1 to {SECONDS_MAX:g}")
    program = shutil.which("h2load")
    if program is None:
        raise MissingError("h2load is not installed. Debian, Ubuntu: sudo apt-get install -y nghttp2-client")
    message = b"" if target.path == RPCS["empty"] else RecommendRequest(user_id=users[0]).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "request"
        body.write_bytes(frame(message))
        return parse(_output(_command(program, target, body, callers, connections, seconds), seconds))


def _command(
    program: str, target: Target, body: Path, callers: int, connections: int, seconds: float
) -> list[str]:
    url = f"http://{target.host}:{target.port}{target.path}"
    return [
        program, "-D", f"{seconds:.0f}", "--warm-up-time", "1", "-c", str(connections), "-m", str(callers // connections),
        "-t", "1", "-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers", url,
    ]  # fmt: skip


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + STOP_S)  # noqa: S603 -- ours
    except subprocess.TimeoutExpired:
        raise MissingError("h2load did not end in time; is the target up?") from None
    if done.returncode:
        raise MissingError(f"h2load failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def parse(text: str) -> dict[str, object]:
    """Calls a second, counts, and the mean, deviation and extremes that h2load tells (it has no percentiles)."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    counts = re.search(r"requests: (\d+) total, .*?(\d+) succeeded, (\d+) failed", text)
    times = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", text)
    if not (rate and counts and times):
        raise MissingError(f"h2load's output can't be read: {text.strip()[-300:]}")
    names = ("min", "max", "mean", "sd")
    found = {name: _ms(value) for name, value in zip(names, times.groups(), strict=True)}
    return {
        "kind": "h2load",
        "achieved_per_s": float(rate[1]),
        "succeeded": int(counts[2]),
        "failed": int(counts[3]),
        "latency_ms": found,
    }


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]  # h2load's own format
    return float(number) * UNITS_MS[unit]
