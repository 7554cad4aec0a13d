"""`reco models`: which models there are, which one answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from reco.ranking.v1 import model_service_pb2 as pb
from reco.ranking.v1.model_service_pb2_grpc import ModelServiceStub

from cli.output import Json, console, print_json, print_table
from cli.system import calls
from runtime.settings import load_settings

CALL_S_MAX = 30.0  # activating verifies every byte of the model first
MODELS_SHOWN_MAX = 50

Version = Annotated[str, typer.Argument(help="The model's version, as `reco models list` shows it.")]

app = typer.Typer(help="List, describe, activate models, and go back.", no_args_is_help=True)


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the models, newest first.

    --json: {"models": [{"version", "state", "create_time", "activate_time", "metrics": {..}, "item_count", "event_count",
    "size_bytes", "has_ranker", "note", "loaded"}]}
    """
    answer = _call("ListModels", pb.ListModelsRequest(page_size=MODELS_SHOWN_MAX))
    models = [as_dict(model) for model in answer.models]
    if json:
        print_json({"models": models})
        return
    columns = ("version", "state", "ndcg@10", "ranker", "items", "events", "MB")
    print_table(columns, [_row(model) for model in models], right=(2, 4, 5, 6))
    # Below, not beside: a terminal of 80 columns must not cut the version, which is there to be copied.
    for model in models:
        if remarks := "; ".join(part for part in (_retrieval(model["metrics"]), model["note"]) if part):
            console.print(f"{model['version']}: {remarks}", markup=False)


@app.command()
def show(version: Version, json: Json = False) -> None:
    """Describe one model. --json: {"model": {as in list}}"""
    _print_model(_call("GetModel", pb.GetModelRequest(version=version)).model, json)


@app.command()
def activate(version: Version, json: Json = False) -> None:
    """Make a model the one that answers. --json: {"model": {as in list}}"""
    _print_model(_call("ActivateModel", pb.ActivateModelRequest(version=version)).model, json)


@app.command()
def roll_back(json: Json = False) -> None:
    """Go back to the model that was active before. --json: {"model": {as in list}}"""
    _print_model(_call("RollBackModel", pb.RollBackModelRequest()).model, json)


def as_dict(model: pb.Model) -> dict[str, Any]:
    """The model as --json prints it; times in RFC 3339."""
    activated = model.activate_time.ToJsonString() if model.HasField("activate_time") else None
    return {
        "version": model.version,
        "state": pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower(),
        "create_time": model.create_time.ToJsonString(),
        "activate_time": activated,
        "metrics": dict(model.metrics),
        "item_count": model.item_count,
        "event_count": model.event_count,
        "size_bytes": model.size_bytes,
        "has_ranker": model.has_ranker,
        "note": model.note,
        "loaded": model.loaded,
    }


def _call(method: str, request: Any) -> Any:
    settings = load_settings()
    with calls(ModelServiceStub, settings.host, settings.ranking_port) as stub:
        return getattr(stub, method)(request, timeout=CALL_S_MAX)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    metrics = model["metrics"]
    quality = metrics.get("ranker_ndcg_at_10", metrics.get("vectorizer_ndcg_at_10"))
    state = model["state"] + (", loaded" if model["loaded"] else "")
    return (
        model["version"],
        state,
        "" if quality is None else f"{quality:.4f}",
        "yes" if model["has_ranker"] else "no",
        str(model["item_count"]),
        str(model["event_count"]),
        f"{model['size_bytes'] / 1e6:.1f}",
    )


def _retrieval(metrics: dict[str, float]) -> str:
    """How its items are searched, by the figures of retrieval/plan.py; empty for a model that was published without."""
    if "retrieval_us" not in metrics:
        return ""
    head, probes = int(metrics["retrieval_head_count"]), int(metrics["retrieval_probe_count"])
    parts = [f"head {head}"] * (head > 0) + [f"{probes} cells"] * (probes > 0)
    return f"retrieval {' + '.join(parts) or 'exact'}, {metrics['retrieval_us']:.0f} us"


def _print_model(model: pb.Model, json: bool) -> None:
    described = as_dict(model)
    if json:
        print_json({"model": described})
        return
    metrics = described.pop("metrics")
    for name, value in [*described.items(), *sorted(metrics.items())]:
        console.print(f"[green]{name:>28}[/green]  {value}")
