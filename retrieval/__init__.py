"""Which rows of a model are nearest to a vector: codes and a plan, built at publish, searched at serving."""

from retrieval.build import Built, build
from retrieval.plan import PARAM, Plan, figures_of, in_words, plan_of
from retrieval.retriever import NO_MASK, Retriever

__all__ = ["NO_MASK", "PARAM", "Built", "Plan", "Retriever", "build", "figures_of", "in_words", "plan_of"]
