"""How a bundle's rows are searched: chosen when it is published, stored in it, and chosen again when recall falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from retrieval import limits

PARAM = "retrieval"  # the key in a bundle's params
EXACT, HEAD, HEAD_CELLS = "exact", "head", "head_cells"


@dataclass(frozen=True)
class Plan:
    """One way of searching. Recall is of the exact best COUNT by inner product, over the bundle's own queries."""

    kind: str  # exact: float32 over all rows; head: codes by falling norm; head_cells: and the cells near the query
    head_count: int = 0  # rows of largest norm that every search scans
    probe_count: int = 0  # cells that a search looks into
    survivors: int = 0  # rows that are scored again in float32
    slack: float = 1.0  # cosine that no answer of the bundle's queries exceeded; 1: the scan stops by Cauchy-Schwarz alone
    recall_mean: float = 1.0
    recall_p5: float = 1.0
    time_us: float = 0.0  # of one search, the fastest of several rounds over the queries
    row_count: float = 0.0  # rows scanned by one search, on average
    reason: str = ""

    @property
    def cost(self) -> float:
        """What a search costs, counted in rows: the same on every machine and in every run."""
        if self.kind == EXACT:
            return self.row_count * limits.EXACT_ROW_COST
        tail = max(0.0, self.row_count - self.head_count)
        return (
            self.row_count
            + tail * (limits.CELL_ROW_COST - 1)
            + self.probe_count * limits.PROBE_COST
            + self.survivors * limits.SURVIVOR_COST
        )

    @property
    def holds(self) -> bool:
        """Whether it finds enough."""
        return self.recall_mean >= limits.RECALL_TARGET and self.recall_p5 >= limits.RECALL_P5_TARGET

    def to_params(self) -> dict[str, Any]:
        """As a bundle's manifest stores it."""
        return asdict(self)


EXACT_PLAN = Plan(EXACT, reason="no plan was published: all rows are scanned")


def plan_of(params: Mapping[str, Any]) -> Plan:
    """The plan of a bundle's params; the exact one where there is none. ValueError if it is not one of ours."""
    stored = params.get(PARAM)
    if stored is None:
        return EXACT_PLAN
    if not isinstance(stored, Mapping) or stored.get("kind") not in (EXACT, HEAD, HEAD_CELLS):
        raise ValueError("its retrieval plan is of a kind that this engine does not know")
    return Plan(**{field.name: stored[field.name] for field in fields(Plan) if field.name in stored})


def figures_of(plan: Plan) -> dict[str, float]:
    """What a model's metrics say of its plan, by name; cli/models.py shows it."""
    return {
        "retrieval_head_count": float(plan.head_count),
        "retrieval_probe_count": float(plan.probe_count),
        "retrieval_recall_at_200": plan.recall_mean,
        "retrieval_recall_at_200_p5": plan.recall_p5,
        "retrieval_us": plan.time_us,
    }


def in_words(plan: Plan) -> str:
    """The plan for people, on one line."""
    if plan.kind == EXACT:
        return "exact"
    tail = f" + {plan.probe_count} cells" if plan.kind == HEAD_CELLS and plan.probe_count else ""
    return f"head {plan.head_count}{tail}, recall {plan.recall_mean:.3f}, {plan.time_us:.0f} us"
