"""`reco surfaces`: a file is checked before it counts, and shown with what it has of the default's."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from runtime.lifecycle import EXIT_ERROR
from runtime.settings import SettingsError

GOOD = "[default]\npage_size = 7\n[surfaces.home]\nturns = ['new']\n[[surfaces.home.pins]]\nitem = 'a [b]'\nplace = 1\n"
WRONG = "[surfaces.home]\npage_size = 0\ndiversity = 2\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["surfaces", *arguments])


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "surfaces.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("RECO_SURFACES_FILE", str(path))
    return path


def test_check_when_the_file_is_right_says_its_version(good: Path) -> None:
    answer = run("check", str(good))
    assert answer.exit_code == 0
    assert "1 surfaces, no mistakes" in answer.output
    assert orjson.loads(run("check", "--json").output)["surfaces"] == ["home"]


def test_check_when_the_file_is_wrong_names_each_mistake_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    answer = run("check", str(path))
    assert answer.exit_code == EXIT_ERROR
    assert answer.output.splitlines() == [
        f"{path}: surfaces.home.page_size: it is 0; allowed: a whole number from 1 to 200",
        f"{path}: surfaces.home.diversity: it is 2; allowed: a number from 0 to 1",
    ]
    answer = run("check", str(path), "--json")
    assert [each["place"] for each in orjson.loads(answer.output)["mistakes"]] == [
        "surfaces.home.page_size",
        "surfaces.home.diversity",
    ]


def test_show_says_what_is_not_as_it_is_without_rules(good: Path) -> None:
    answer = run("show")
    assert answer.output.splitlines()[:6] == [
        "default",
        "  page_size: 7",
        "home",
        "  page_size: 7",
        "  turns: new",
        "  pins: name pin 1, item_id a [b], place 1",
    ]
    shown = orjson.loads(run("show", "home", "--json").output)["surfaces"]
    assert list(shown) == ["home"]
    assert shown["home"]["pins"] == [{"name": "pin 1", "item_id": "a [b]", "place": 1}]


def test_show_when_there_is_no_such_surface_or_file_says_so(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run("show", "nowhere").exception, SettingsError)
    monkeypatch.delenv("RECO_SURFACES_FILE")
    assert "RECO_SURFACES_FILE is not set" in str(run("show").exception)
