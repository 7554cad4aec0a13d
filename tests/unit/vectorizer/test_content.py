"""Vectors from words: what is fitted, what is expected, what is learnt."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorizer.content import ContentModel, WordLists, hashes_of, learnt_vector, word_hash

D = 3


def model() -> ContentModel:
    words = np.sort(np.array(hashes_of(["Comedy"], ["long"]), dtype=np.uint64))
    vectors = np.eye(2, D, dtype=np.float32)
    return ContentModel(words, vectors, np.full(D, 0.5, dtype=np.float32), np.eye(D, dtype=np.float32))


def test_word_hash_tells_a_category_from_a_tag_and_is_the_same_everywhere() -> None:
    assert word_hash("c", "Comedy") == int.from_bytes(
        hashlib.blake2b(b"c:Comedy", digest_size=8).digest(), "little"
    )
    assert word_hash("c", "Comedy") != word_hash("t", "Comedy")


def test_vector_of_words_is_the_bias_and_their_sum() -> None:
    vector = model().vector_of([*hashes_of(["Comedy"], ["long", "unheard"])])
    np.testing.assert_allclose(np.sort(vector), [0.5, 1.5, 1.5])


def test_vector_of_no_words_is_the_bias() -> None:
    assert model().vector_of([]).tolist() == [0.5] * D


def test_arrays_there_and_back_are_the_same_model() -> None:
    back = ContentModel.from_arrays(model().to_arrays(), D)
    assert back is not None
    for name, array in model().to_arrays().items():
        np.testing.assert_array_equal(back.to_arrays()[name], array)


def test_bundle_without_content_has_no_model() -> None:
    assert ContentModel.from_arrays({}, D) is None


def test_arrays_of_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="not of its factors"):
        ContentModel.from_arrays(model().to_arrays(), D + 1)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=4), max_size=8), st.data())
def test_taken_lists_are_those_of_the_items(lists: list[list[int]], data: st.DataObject) -> None:
    items = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8) if lists else st.just([]))
    taken = WordLists.of(lists).take(np.array(items, dtype=np.int64))
    found = [taken.hashes[a:b].tolist() for a, b in zip(taken.starts[:-1], taken.starts[1:], strict=True)]
    assert found == [lists[i] for i in items]


def test_learnt_without_events_is_what_was_expected() -> None:
    expected = np.array([0.1, -0.2, 0.3], dtype=np.float32)
    np.testing.assert_allclose(
        learnt_vector(
            expected, np.eye(D, dtype=np.float32), np.zeros((0, D), np.float32), np.zeros(0, np.float32)
        ),
        expected,
    )


def test_learnt_from_events_comes_nearer_to_who_touched_it() -> None:
    expected, user = np.zeros(D, dtype=np.float32), np.array([[1.0, 0, 0]], dtype=np.float32)
    gram = 10 * np.eye(D, dtype=np.float32)
    products = [
        float(learnt_vector(expected, gram, np.repeat(user, n, axis=0), np.full(n, 20, np.float32)) @ user[0])
        for n in (0, 1, 3, 30)
    ]
    assert products == sorted(products)
    assert products[-1] == pytest.approx(1.0, abs=0.02)
