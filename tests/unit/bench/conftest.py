"""One small data set for all tests of the bench."""

from __future__ import annotations

from pathlib import Path

import pytest

import bench.data
from bench.options import Options


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest data set, whole."""
    return bench.data.make(Options(1_000, 16, 200), tmp_path_factory.mktemp("bench"))
