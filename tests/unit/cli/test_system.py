"""One `reco up` a data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.system import sole_owner
from runtime.errors import StateError


def test_sole_owner_when_another_has_the_folder_says_so_and_later_gets_it(tmp_path: Path) -> None:
    with (
        sole_owner(tmp_path / "data"),
        pytest.raises(StateError, match="already"),
        sole_owner(tmp_path / "data"),
    ):
        pass
    with sole_owner(tmp_path / "data"):
        assert (tmp_path / "data").is_dir()


def test_sole_owner_when_the_folder_can_not_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="RECO_DATA_DIR"), sole_owner(tmp_path / "file" / "data"):
        pass
