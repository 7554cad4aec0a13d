"""Page tokens remember what was shown; attribution tokens say which answer it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reco.errors.v1 import error_reason_pb2

from runtime.errors import CallerError
from serving import tokens
from serving.limits import TOKEN_CHARS_MAX

ATTRIBUTION_CHARS_MAX = 512  # the contract's


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**28 - 1), max_size=300, unique=True), st.integers(0, 2**32 - 1))
def test_page_token_when_read_gives_the_keys_back(keys: list[int], fingerprint: int) -> None:
    token = tokens.make_page_token(np.array(keys, dtype=np.int32), fingerprint)
    assert tokens.read_page_token(token, fingerprint).tolist() == sorted(keys)


def test_page_token_when_it_would_be_too_long_is_empty() -> None:
    keys = np.arange(0, 2**28, 2**16, dtype=np.int32)  # 17 bits each
    assert tokens.make_page_token(keys, 1) == ""
    assert 0 < len(tokens.make_page_token(keys[:2_000], 1)) <= TOKEN_CHARS_MAX


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_page_token_of_fifty_pages_of_a_hundred_of_a_million_items_fits(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    # Evenly, or most of them among the first, with one at the very end.
    keys = np.unique((1_000_000 * random.random(5_200) ** spread).astype(np.int32))
    keys = np.append(random.permutation(keys)[:5_099], 999_999).astype(np.int32)
    token = tokens.make_page_token(keys, 1)
    assert 0 < len(token) <= TOKEN_CHARS_MAX
    assert tokens.read_page_token(token, 1).tolist() == sorted(set(keys.tolist()))


def refused(token: str, fingerprint: int = 1) -> str:
    with pytest.raises(CallerError) as caught:
        tokens.read_page_token(token, fingerprint)
    assert caught.value.reason == error_reason_pb2.ERROR_REASON_PAGE_TOKEN_INVALID
    return caught.value.message


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "!!!!", "A" * 40, " "])
def test_page_token_when_not_ours_is_refused(token: str) -> None:
    assert "first page" in refused(token)


def test_page_token_when_one_character_differs_is_refused() -> None:
    token = tokens.make_page_token(np.arange(50, dtype=np.int32), 1)
    for at in range(0, len(token) - 1, 5):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert refused(altered)


def test_page_token_when_request_differs_is_refused() -> None:
    assert "another request" in refused(tokens.make_page_token(np.arange(5, dtype=np.int32), 2))


def test_attribution_token_when_read_says_which_answer() -> None:
    token = tokens.make_attribution_token(bytes(range(16)), 1_800_000_000.7, "v" * 64)
    assert len(token) <= ATTRIBUTION_CHARS_MAX
    assert tokens.read_attribution_token(token) == tokens.Attribution(
        bytes(range(16)), 1_800_000_000, "v" * 64
    )


@pytest.mark.parametrize("token", ["", "rubbish", "é", "AA"])
def test_attribution_token_when_not_ours_is_none(token: str) -> None:
    assert tokens.read_attribution_token(token) is None
