"""`reco explain`: why a user is shown an item, or not."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from reco.ranking.v1 import ranking_service_pb2 as ranking
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from cli.output import Json, console, print_json, print_table
from cli.recommend import CALL_S_MAX, enum_text
from cli.system import calls
from runtime.settings import load_settings

FEATURES_SHOWN = 8  # the largest; --json has all


def explain(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    items: Annotated[list[str], typer.Argument(help="Item ids, at most 50.")],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=200, help="How many items a page has.")
    ] = 10,
    filter_: Annotated[
        str, typer.Option("--filter", help='Such as: categories:"Comedy" AND year >= 1990')
    ] = "",
    surface: Annotated[str, typer.Option(help="Where the answer is shown.")] = "",
    json: Json = False,
) -> None:
    """Say why a user is shown items, or at which stage they fall out.

    --json: {"explanations": [{"item_id", "stage", "margin", "position", "sources", "score", "features", "rules", "summary"}], ..}
    """
    settings = load_settings()
    request = ranking.RecommendRequest(user_id=user, page_size=count, filter=filter_, surface=surface)
    asked = ranking.ExplainRequest(request=request, item_ids=items)
    with calls(RankingServiceStub, settings.host, settings.ranking_port) as stub:
        answer = stub.Explain(asked, timeout=CALL_S_MAX)
    if json:
        print_json(as_dict(answer))
        return
    rows = [
        (each.item_id, enum_text(ranking.Stage.Name(each.stage)), each.summary)
        for each in answer.explanations
    ]
    print_table(("item", "stage", "why"), rows)
    for each in answer.explanations:
        if each.features:
            largest = sorted(each.features.items(), key=lambda pair: -abs(pair[1]))[:FEATURES_SHOWN]
            console.print(f"{each.item_id}: " + ", ".join(f"{name} {value:.3g}" for name, value in largest))
    console.print(f"model {answer.model_version or 'none'}")


def as_dict(answer: ranking.ExplainResponse) -> dict[str, Any]:
    """The answer as --json prints it."""
    return {
        "explanations": [_as_dict(each) for each in answer.explanations],
        "model_version": answer.model_version,
        "degradations": [enum_text(ranking.Degradation.Name(d)) for d in answer.degradations],
    }


def _as_dict(each: ranking.Explanation) -> dict[str, Any]:
    return {
        "item_id": each.item_id,
        "stage": enum_text(ranking.Stage.Name(each.stage)),
        "margin": each.margin,
        "position": each.position,
        "sources": [enum_text(ranking.Source.Name(source)) for source in each.sources],
        "score": each.score if each.HasField("score") else None,
        "features": dict(each.features),
        "rules": [{"kind": rule.kind, "name": rule.name, "effect": rule.effect} for rule in each.rules],
        "summary": each.summary,
    }
