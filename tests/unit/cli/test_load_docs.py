"""The examples of docs/load.md do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.loading.events import EventMaker
from cli.loading.mapping import from_file
from training.columns import RowError
from training.tables import open_table

PAGE = (Path(__file__).parents[3] / "docs" / "load.md").read_text()


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match[1]


def test_mapping_file_of_the_page_makes_of_its_rows_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(block("toml"))
    (tmp_path / "clicks.csv").write_text(block("csv"))
    events, items = from_file(tmp_path / "shop.toml", {}, {})
    maker = EventMaker(events)
    rows = [row for _, row, _, _ in open_table(tmp_path / "clicks.csv", list(events.columns.values()))]

    bought, wish = maker.make(1, rows[0]), maker.make(2, rows[1])

    assert (bought.id, bought.type, bought.value, bought.context.device) == ("1", 4, 9.5, "phone")
    assert bought.event_time.ToJsonString() == "2024-01-02T00:30:00Z"
    assert (wish.custom_type, wish.surface, wish.HasField("value")) == ("wish", "shop", False)
    with pytest.raises(RowError, match="the type is not one of"):
        maker.make(3, rows[2])
    assert items.separator == "|"
