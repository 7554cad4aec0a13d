"""New items with vectors of their own, against a plain dict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serving import limits
from serving.live_items import LiveTable

FACTORS = 4
KEYS = st.integers(0, 30)
SMALL = st.floats(-4, 4, width=16)


def table() -> LiveTable:
    model: Any = SimpleNamespace(arrays=SimpleNamespace(factor_count=FACTORS))  # all that a table asks of it
    return LiveTable(model)


class AgainstADict(RuleBasedStateMachine):
    """Puts and drops in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table()
        self.plain: dict[int, np.ndarray] = {}

    @rule(key=KEYS, values=st.lists(SMALL, min_size=FACTORS, max_size=FACTORS))
    def put(self, key: int, values: list[float]) -> None:
        vector = np.array(values, dtype=np.float32)
        self.table.put(key, vector)
        self.plain[key] = vector

    @rule(key=KEYS)
    def drop(self, key: int) -> None:
        self.table.drop(key)
        self.plain.pop(key, None)

    @rule(
        values=st.lists(SMALL, min_size=FACTORS, max_size=FACTORS), count=st.integers(1, 5), odd=st.booleans()
    )
    def ask(self, values: list[float], count: int, odd: bool) -> None:
        vector = np.array(values, dtype=np.float32)
        mask = np.arange(40) % 2 == 1 if odd else np.ones(40, dtype=np.bool_)
        found = self.table.nearest(vector, count, mask)
        products = {
            key: float(own @ vector) for key, own in self.plain.items() if mask[key] and own @ vector > 0
        }
        assert len(found) == min(count, len(products))
        best = sorted(products.values(), reverse=True)[:count]
        np.testing.assert_allclose([products[key] for key in found.tolist()], best, rtol=1e-5)

    @invariant()
    def agrees(self) -> None:
        assert sorted(self.table.keys.tolist()) == sorted(self.plain)
        for key in range(31):
            own = self.table.vector_of(key)
            assert (own is None) == (key not in self.plain)
            assert own is None or (own == self.plain[key]).all()


AgainstADict.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstADict = AgainstADict.TestCase


def test_put_when_full_lets_the_oldest_key_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIVE_ITEMS_MAX", 3)
    full = table()
    for key in (5, 9, 7, 8, 6):
        full.put(key, np.ones(FACTORS, dtype=np.float32))
    assert sorted(full.keys.tolist()) == [7, 8, 9]


def test_products_of_unknown_keys_are_not_numbers() -> None:
    some = table()
    some.put(3, np.ones(FACTORS, dtype=np.float32))
    products = some.products_of(np.array([2, 3], dtype=np.int32), np.full(FACTORS, 2, dtype=np.float32))
    assert np.isnan(products[0])
    assert products[1] == 8
