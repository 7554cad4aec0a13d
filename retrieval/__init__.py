"""Which rows of a model are nearest to a vector: codes and a plan, built at publish, searched at serving."""

import runtime.kernel_cache  # noqa: F401  # before the first kernel: it says where numba keeps them
from retrieval.build import Built, build
from retrieval.plan import PARAM, Plan, figures_of, in_words, plan_of
from retrieval.retriever import NO_MASK, Retriever
from retrieval.shown import Shown, ShownRows
from retrieval.tune import Tuned, tuned, whole

__all__ = [
    "NO_MASK",
    "PARAM",
    "Built",
    "Plan",
    "Retriever",
    "Shown",
    "ShownRows",
    "Tuned",
    "build",
    "figures_of",
    "in_words",
    "plan_of",
    "tuned",
    "whole",
]
