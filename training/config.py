"""What a training run is configured by: frozen, seeded, range-checked. Chosen on MovieLens' validation cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vectorizer.limits import LIST_COUNT_MAX

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """The progress callback of a caller that does not look: stage, steps done, steps in all."""


@dataclass(frozen=True)
class BaseConfig:
    """The base model: iALS factors, neighbour and transition lists, popularity."""

    seed: int = 7
    factor_count: int = 48
    iteration_count: int = 15
    regularization: float = 40.0  # added to the diagonal of each least-squares system
    confidence: float = 8.0  # extra weight of an observed event in the fit
    fold_confidence: float = 60.0  # the same in the fold-in, where recency and type scale it
    decay: float = 0.3  # by position in the ring, newest first
    decay_slow: float = 0.03  # of the second vector that the ranker compares with
    decay_fast: float = 1.0  # of the third: the newest few events
    neighbour_count: int = 100
    ease_regularization: float = 300.0
    cosine_shrink: float = 10.0
    transition_count: int = 100
    transition_reach: int = 10
    transition_decay: float = 0.8
    transition_backward: float = 0.5
    transition_shrink: float = 10.0
    transition_power: float = 0.3
    liking_prior_count: float = 10.0
    bucket_count: int = 52
    bucket_width_s: int = 7 * 86_400
    thread_count: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.factor_count <= 512:
            raise ValueError(f"factor_count is {self.factor_count}, it has to be 2 to 512")
        if min(self.iteration_count, self.thread_count, self.bucket_count, self.bucket_width_s) < 1:
            raise ValueError(
                "iteration_count, thread_count, bucket_count and bucket_width_s have to be at least 1"
            )
        for name in ("neighbour_count", "transition_count"):
            if not 1 <= getattr(self, name) <= LIST_COUNT_MAX:
                raise ValueError(f"{name} is {getattr(self, name)}, it has to be 1 to {LIST_COUNT_MAX}")


@dataclass(frozen=True)
class RankerConfig:
    """The ranker: which training rows are drawn, and CatBoost's settings."""

    seed: int = 7
    loss: str = "YetiRank"
    tree_count: int = 200
    depth: int = 6
    learning_rate: float = 0.06
    l2: float = 5.0
    window_count: int = 16
    first_share: float = 0.15  # of the events that only feed the first window's model
    group_count_max: int = 16_000
    negative_count: int = 25  # kept of a group's candidates
    ring_event_count_min: int = 3
    thread_count: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 10:
            raise ValueError(f"depth is {self.depth}, it has to be 1 to 10: a tree has 2**depth leaves")
        if not 0 <= self.first_share < 1:
            raise ValueError(f"first_share is {self.first_share}, it has to be at least 0 and below 1")
        if min(self.tree_count, self.window_count, self.negative_count, self.thread_count) < 1:
            raise ValueError(
                "tree_count, window_count, negative_count and thread_count have to be at least 1"
            )


QUICK_RANKER = RankerConfig(
    loss="QuerySoftMax", tree_count=80, depth=5, window_count=6, group_count_max=4_000, negative_count=25
)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    base: BaseConfig = field(default_factory=BaseConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
