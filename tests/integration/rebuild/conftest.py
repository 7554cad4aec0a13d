"""A running ingest, as the tests of ingest have it; its lake does not wait for a file to fill."""

from __future__ import annotations

import pytest

from ingest.sinks.lake import LakeSink
from tests.integration.ingest.conftest import ingest, pool

__all__ = ["ingest", "pool"]


@pytest.fixture(autouse=True)
def quick_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come at once: these tests wait for the lake again and again."""
    monkeypatch.setattr(LakeSink, "fill_s", 0.0)
