"""Which rows of a model are nearest to a vector: codes and a plan, built at publish, searched at serving."""

from retrieval.build import Built, build
from retrieval.plan import PARAM, Plan, in_words, plan_of
from retrieval.retriever import NO_MASK, Retriever

__all__ = ["NO_MASK", "PARAM", "Built", "Plan", "Retriever", "build", "in_words", "plan_of"]
