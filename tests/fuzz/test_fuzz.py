"""A short run of each target, the same every time; `make fuzz` is the long one."""

from __future__ import annotations

import pytest

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS, crashers_of

SEED = 1
INPUTS = 20_000


@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes_are_read_or_refused_as_they_should_be(name: str) -> None:
    target = TARGETS[name]
    for data in inputs(target, crashers_of(name), SEED, INPUTS // target.slow):
        try:
            target.run(data)
        except Exception as error:
            pytest.fail(f"{name} on {data!r}: {type(error).__name__}: {error}")
