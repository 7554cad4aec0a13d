"""`reco recommend`: what a user would be shown now."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from reco.ranking.v1 import ranking_service_pb2 as ranking
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from cli.output import Json, console, print_json, print_table
from cli.system import calls
from runtime.settings import load_settings

CALL_S_MAX = 5.0  # a person waits; an answer takes milliseconds


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id; one that is unknown gets popular items.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=200, help="How many items.")] = 10,
    filter_: Annotated[
        str, typer.Option("--filter", help='Such as: categories:"Comedy" AND year >= 1990')
    ] = "",
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="0: by score alone; 1: as different as possible.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Recommend items to a user.

    --json: {"items": [{"item_id", "score", "source"}], "model_version", "attribution_token", "degradations": [..]}
    """
    settings = load_settings()
    request = ranking.RecommendRequest(user_id=user, page_size=count, filter=filter_, diversity=diversity)
    with calls(RankingServiceStub, settings.host, settings.ranking_port) as stub:
        answer = stub.Recommend(request, timeout=CALL_S_MAX)
    result = as_dict(answer)
    if json:
        print_json(result)
        return
    rows = [
        (str(n), i["item_id"], f"{i['score']:.4f}", i["source"]) for n, i in enumerate(result["items"], 1)
    ]
    print_table(("", "item", "score", "source"), rows, right=(0, 2))
    console.print(
        f"model {answer.model_version or 'none'}" + "".join(f", {d.lower()}" for d in result["degradations"])
    )


def as_dict(answer: ranking.RecommendResponse) -> dict[str, Any]:
    """The answer as --json prints it."""
    return {
        "items": [
            {"item_id": i.item_id, "score": i.score, "source": enum_text(ranking.Source.Name(i.source))}
            for i in answer.items
        ],
        "model_version": answer.model_version,
        "attribution_token": answer.attribution_token,
        "degradations": [enum_text(ranking.Degradation.Name(d)) for d in answer.degradations],
    }


def enum_text(enum_name: str) -> str:
    """Such as "personal" for "SOURCE_PERSONAL"."""
    return enum_name.partition("_")[2].lower()
