"""One running system for all end-to-end tests, filled with MovieLens-100k and a quickly trained model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import FRESHNESS_REPORT, System


@pytest.fixture
def fresh() -> Iterator[System]:
    """A system that was never started, in a folder that the account of PostgreSQL may enter (pytest's own it may not)."""
    made = Path(tempfile.mkdtemp(prefix="reco-e2e-"))
    system = System(made)
    yield system
    system.close()
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def system(movielens_dir: Path) -> Iterator[System]:
    """`reco up`, with MovieLens-100k loaded through the ingest service and a model trained by the worker."""
    made = Path(tempfile.mkdtemp(prefix="reco-e2e-"))
    FRESHNESS_REPORT.unlink(missing_ok=True)  # an earlier run's
    running = System(made)
    running.start()
    try:
        mapping = [
            f"--map={pair}"
            for pair in (
                "user=user_id:token",
                "item=item_id:token",
                "time=timestamp:float",
                "value=rating:float",
            )
        ]
        items = ["--items", str(movielens_dir / "ml-100k.item")]
        names = (
            "item=item_id:token",
            "title=movie_title:token_seq",
            "categories=class:token_seq",
            "released=release_year:token",
        )
        item_mapping = [f"--map-item={pair}" for pair in names]
        running.loaded = running.reco_json(
            "load", str(movielens_dir / "ml-100k.inter"), *mapping, *items, *item_mapping
        )
        running.reco("train", "--quick")
        yield running
    finally:
        running.close()
        shutil.rmtree(made)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The canary's figures, in the run's own output."""
    if FRESHNESS_REPORT.exists():
        terminalreporter.write_line(
            f"event acknowledged -> counts in Recommend: {FRESHNESS_REPORT.read_text()}"
        )
