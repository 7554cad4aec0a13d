"""Which model a roll back goes to."""

from __future__ import annotations

import pytest

from bundle.registry import ROLL_BACK, previous_version


def history(*steps: str) -> list[tuple[str, str]]:
    return [
        (step.removeprefix("back:"), ROLL_BACK if step.startswith("back:") else "published") for step in steps
    ]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), None),
        (("a",), None),
        (("a", "b"), "a"),
        (("a", "b", "c", "back:b"), "a"),
        (("a", "b", "c", "back:b", "back:a"), None),
        (("a", "b", "back:a", "c"), "a"),
    ],
)
def test_previous_version_after_steps_is(steps: tuple[str, ...], expected: str | None) -> None:
    assert previous_version(history(*steps)) == expected
