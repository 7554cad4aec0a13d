"""Offset tokens: what we make we read, what we did not make we refuse."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reco.errors.v1 import error_reason_pb2

from profiles.offsets import entry_id_of, make_token, offset_for, pack_offset, parse_token
from profiles.subjects import partition_of, subject_of
from runtime.errors import CallerError

OFFSETS = st.dictionaries(st.integers(0, 255), st.integers(0, (10**13 << 16) - 1), max_size=8)


@given(OFFSETS)
def test_token_round_trips(offsets: dict[int, int]) -> None:
    assert parse_token(make_token(offsets)) == offsets


@given(st.text(alphabet="0123456789:-,. x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(CallerError):
        offsets = parse_token(text)
        assert parse_token(make_token(offsets)) == offsets


@pytest.mark.parametrize(
    "token", ["x", "1:2", "1:2-70000", "1:2-3,", " 1:2-3", "1:2-3\n", "١:2-3", "1:-2-3", "1:2-3," * 3000]
)
def test_rubbish_is_refused(token: str) -> None:
    with pytest.raises(CallerError, match="not made by the ingest service") as raised:
        parse_token(token)

    assert raised.value.reason == error_reason_pb2.ERROR_REASON_OFFSET_INVALID
    assert raised.value.metadata == {"field": "minimum_offset"}


def test_offset_for_picks_the_subject_s_partition_and_asks_nothing_of_others() -> None:
    own = partition_of("u:anna", 4)
    token = make_token({own: pack_offset("1790000000000-3"), (own + 1) % 4: 7})

    assert offset_for("u:anna", token, 4) == 1790000000000 << 16 | 3
    assert offset_for("u:anna", make_token({(own + 1) % 4: 7}), 4) is None
    assert offset_for("u:anna", "", 4) is None


def test_packed_offsets_compare_as_the_store_orders_its_ids() -> None:
    ids = ["5-0", "5-1", "5-65535", "6-0", "1790000000000-0"]

    assert sorted(ids, key=pack_offset) == ids
    assert [entry_id_of(pack_offset(entry)) for entry in ids] == ids


def test_subject_with_both_ids_is_the_user_s() -> None:
    assert subject_of("anna", "s1") == "u:anna"
    assert subject_of("", "s1") == "s:s1"
