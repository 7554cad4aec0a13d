"""What is joined from bytes is what protobuf writes, bit by bit."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from reco.ranking.v1.ranking_service_pb2 import RankItemsResponse, Recommendation, RecommendResponse, Source

from serving.encoding import encoded_items

ITEM = st.tuples(
    st.text(min_size=1, max_size=128).filter(lambda text: text.isprintable()),
    st.floats(allow_nan=False, width=32) | st.sampled_from([0.0, -0.0]),
    st.sampled_from(sorted(Source.values())),
    st.sampled_from([0.0, 0.05, 1.0]),
)


@given(st.lists(ITEM, max_size=30), st.text(max_size=40))
@example([("é" * 128, 1.5, 0, 0.25)], "token")  # a length of two bytes
def test_encoded_items_are_protobufs_own_bytes(
    items: list[tuple[str, float, int, float]], token: str
) -> None:
    joined = np.frombuffer("\0".join(i for i, *_ in items).encode(), dtype=np.uint8)
    scores = np.array([score for _, score, *_ in items], dtype=np.float32)
    sources = np.array([source for _, _, source, _ in items], dtype=np.uint8)
    made = encoded_items(joined, scores, sources, np.array([drawn for *_, drawn in items], dtype=np.float64))
    rest = {"model_version": "m", "attribution_token": token}
    for message in (RecommendResponse, RankItemsResponse):
        whole = message(
            items=[
                Recommendation(item_id=i, score=score, source=source, propensity=drawn)
                for i, score, source, drawn in items
            ],
            **rest,
        )
        assert made + message(**rest).SerializeToString() == whole.SerializeToString()
