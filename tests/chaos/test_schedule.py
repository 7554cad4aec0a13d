"""Which fault comes when: the same for the same seed, and every kind of them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench.chaos.schedule import AGEING_SHARE, ENDS_OURS, OURS, TARGETS, draw


def test_draw_when_the_seed_is_the_same_is_the_same() -> None:
    assert draw(7, 600, 240) == draw(7, 600, 240)
    assert draw(7, 600, 240) != draw(8, 600, 240)


@pytest.mark.parametrize("seed", range(20))
def test_draw_when_there_are_few_has_every_kind(seed: int) -> None:
    assert {fault.kind for fault in draw(seed, 60, 24)} == set(TARGETS)


def test_draw_when_there_are_many_hurts_every_target_in_every_way() -> None:
    drawn = {(fault.kind, fault.target) for fault in draw(7, 600, 240)}
    assert drawn == {(kind, target) for kind, targets in TARGETS.items() for target in targets}


def test_draw_when_no_disk_can_be_filled_fills_none() -> None:
    assert "fill" not in {fault.kind for fault in draw(7, 600, 240, disks=False)}


def test_draw_in_the_last_part_ends_no_process_of_ours() -> None:
    late = [fault for fault in draw(7, 600, 240) if fault.at_s > 600 * (1 - AGEING_SHARE)]
    assert late
    assert not [fault for fault in late if fault.kind in ENDS_OURS and fault.target in OURS]


def test_draw_is_in_the_order_of_time() -> None:
    assert all(before.at_s <= after.at_s for before, after in pairwise(draw(7, 600, 240)))
