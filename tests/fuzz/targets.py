"""All targets, by name, and the inputs that were findings once."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import connections, filters, stored, wire
from tests.fuzz.target import Target

CRASHERS = Path(__file__).parent / "crashers"
TARGETS: dict[str, Target] = {
    target.name: target for target in (*wire.TARGETS, *stored.TARGETS, *connections.TARGETS, *filters.TARGETS)
}


def crashers_of(name: str) -> list[bytes]:
    """Inputs that a target has failed on before: each stays a case of the tests."""
    return [path.read_bytes() for path in sorted((CRASHERS / name).glob("*"))]
