"""`reco evaluate`: the quality table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli.output import Json, console, print_json, print_table, progress_bar
from cli.tables import ItemMap, ItemsFile, Map, Source, read_source
from training.columns import to_dataset
from training.config import QUICK_RANKER, Config
from training.dataset import DatasetError
from training.evaluate import evaluate as evaluate_models


def evaluate(
    data: Source = "movielens",
    mapping: Map = None,
    items: ItemsFile = None,
    item_mapping: ItemMap = None,
    quick: Annotated[bool, typer.Option(help="A smaller ranker: seconds rather than minutes.")] = False,
    json: Json = False,
) -> None:
    """Fit every model and baseline on all but each user's last event, and rank that event among all unseen items.

    --json: {"data": {"events", "users", "items", "protocol", "users_evaluated", "rows_set_aside"},
    "models": {"popularity" | "item_knn" | "ease" | "ials" | "vectorizer" | "ranker":
    {"ndcg_at_10", "recall_at_100", "hit_rate_at_10", "fit_s"}}}
    """
    loaded = read_source(data, mapping, items, item_mapping)
    config = Config(ranker=QUICK_RANKER) if quick else Config()
    with progress_bar() as bar:
        result = evaluate_models(to_dataset(loaded.events, loaded.items), config, follow(bar))
    if not result["data"]["users_evaluated"]:
        raise DatasetError(
            "no user has two events: there is nothing to learn from and rank; give a longer history"
        )
    result["data"]["rows_set_aside"] = loaded.bad.count
    if json:
        print_json(result)
        return
    _print(result)


def follow(bar: Any) -> Callable[[str, int, int], None]:
    """A progress callback that draws each stage as a bar of its own."""
    tasks: dict[str, Any] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total)

    return progress


def _print(result: dict[str, Any]) -> None:
    data = result["data"]
    console.print(
        f"{data['events']:,} events, {data['users']:,} users, {data['items']:,} items; {data['protocol']}, "
        f"{data['users_evaluated']:,} users, ranked against all unseen items"
    )
    columns = ("model", "NDCG@10", "Recall@100", "hit rate@10", "fit, s")
    rows = [
        (
            name,
            f"{m['ndcg_at_10']:.4f}",
            f"{m['recall_at_100']:.4f}",
            f"{m['hit_rate_at_10']:.4f}",
            f"{m['fit_s']:.1f}",
        )
        for name, m in result["models"].items()
    ]
    print_table(columns, rows, right=(1, 2, 3, 4))
