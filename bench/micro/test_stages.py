"""One benchmark a stage, in the order of a request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reco.ranking.v1.ranking_service_pb2 import RecommendResponse

from bench.micro.conftest import CANDIDATES, State
from profiles.codec import decode
from serving.answers import encoded_recommendations
from serving.catalogue import Catalogue
from serving.rules import Rules
from serving.selection import SelectionContext, select
from vectorizer import gather, vectorize
from vectorizer.forest import score_forest
from vectorizer.request import features

PAGE = 20


def test_profile_decode(benchmark: Any, state: State) -> None:
    assert len(benchmark(decode, state.profile).keys) == len(state.ring[0])


@pytest.mark.parametrize("count", [10, 64])
def test_vectorize(benchmark: Any, state: State, count: int) -> None:
    rows, codes, times = (part[-count:] for part in state.ring)
    assert benchmark(vectorize, rows, codes, times, state.data.model, state.workspace).any()


def test_retrieval(benchmark: Any, state: State) -> None:
    assert len(benchmark(state.retriever.search, state.vector, CANDIDATES)) == CANDIDATES


def test_gather(benchmark: Any, state: State) -> None:
    found = benchmark(
        gather, *state.ring, state.vector, state.data.model, state.workspace, personal_rows=state.near
    )
    assert len(found.rows) >= PAGE


def test_features(benchmark: Any, state: State) -> None:
    matrix = benchmark(
        features, state.found, *state.ring, state.now_s, state.vector, state.data.model, state.workspace
    )
    assert matrix.shape[1] == len(state.found)


def test_score(benchmark: Any, state: State) -> None:
    model, w = state.data.model, state.workspace
    matrix = features(state.found, *state.ring, state.now_s, state.vector, model, w).copy()
    scores, leaf = np.zeros(len(state.found)), np.zeros(len(state.found), dtype=np.int32)
    forest = (
        model.forest_features,
        model.forest_borders,
        model.forest_leaves,
        float(model.params["forest_bias"]),
    )
    benchmark(score_forest, matrix, *forest, leaf, scores)
    assert np.allclose(scores, state.scores, atol=1e-4)


@pytest.mark.parametrize("diversity", [0.0, 0.5], ids=["plain", "diverse"])
def test_select(benchmark: Any, state: State, catalogue: Catalogue, diversity: float) -> None:
    model = SimpleNamespace(arrays=state.data.model)  # all of a loaded model that selection reads
    rules, context = Rules(page_size=PAGE, diversity=diversity), SelectionContext(catalogue, model)  # type: ignore[arg-type]  # as said
    places = benchmark(select, state.candidates, state.scores, rules, context).places
    assert len(places) == PAGE


def test_encode(benchmark: Any, state: State, catalogue: Catalogue) -> None:
    chosen = state.candidates.keys[:PAGE], state.scores[:PAGE], state.candidates.bits[:PAGE]

    def encode() -> bytes:
        return encoded_recommendations(catalogue, *chosen)

    assert len(RecommendResponse.FromString(benchmark(encode)).items) == PAGE
