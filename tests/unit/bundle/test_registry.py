"""Which model a roll back goes to."""

from __future__ import annotations

import pytest

from bundle.registry import ROLL_BACK, previous_version, stack_of


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


def test_stack_after_going_back_holds_what_can_still_be_reached() -> None:
    assert stack_of(history("a", "b", "back:a", "c", "d")) == ["a", "c", "d"]
