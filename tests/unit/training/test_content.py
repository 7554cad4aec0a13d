"""The words' vectors are those of weighted ridge regression with a free bias, as a plain solver finds them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from training import content
from vectorizer.content import WordLists


def test_ridge_finds_what_a_plain_solver_finds() -> None:
    random = np.random.default_rng(3)
    words = (random.random((40, 6)) < 0.3).astype(np.float64)
    factors, weights = random.normal(size=(40, 4)), random.random(40)
    bias, vectors = content._ridge(csr_matrix(words), factors, weights)

    whole = np.column_stack([words, np.ones(40)])
    penalty = np.diag([content.RIDGE] * 6 + [0.0])
    plain = np.linalg.solve(
        whole.T @ (weights[:, None] * whole) + penalty, whole.T @ (weights[:, None] * factors)
    )
    np.testing.assert_allclose(vectors, plain[:-1], atol=1e-9)
    np.testing.assert_allclose(bias, plain[-1], atol=1e-9)


def test_matrix_keeps_words_of_several_items_ascending() -> None:
    words, matrix = content._matrix(WordLists.of([[7, 9], [7, 2**63], [2**63], []]))
    assert words.tolist() == [7, 2**63]
    assert matrix.toarray().tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]
