"""Draws a result: latency over rate, recall over latency, cost by stage, as PNG and as one HTML page that needs nothing else.

make bench-report                                              # the newest of bench/results
python -m bench.report bench/results/2026-11-23-abc-machine.json --out /some/folder
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from bench import results
from bench.targets import TARGETS

# Paper, ink, and what is drawn on it: greens, browns, warm orange.
PAPER, INK, GRID = "#faf7f0", "#33291f", "#ddd3c2"
GREEN, BROWN, ORANGE, OLIVE, SAND = "#2f6b3c", "#7a4f2a", "#d9772b", "#8a8f3a", "#c2a878"
STAGE_COLOURS = (GREEN, ORANGE, BROWN, OLIVE, SAND, "#5d8a5f", "#e3a15f", "#a5805a", "#b9b86a", "#94562f")
DOTS_PER_INCH = 144
Draw = Callable[[Axes, Mapping[str, Any]], bool]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, nargs="?", help="a file of bench/results (default: the newest)")
    parser.add_argument("--out", type=Path, help="folder of the pictures (default: beside the result)")
    arguments = parser.parse_args()
    path = arguments.result or results.latest(results.FOLDER, results.QUICK_FOLDER)
    if path is None or not path.exists():
        print("bench.report: there is no result yet; run `make bench` or `make bench-quick`", file=sys.stderr)
        return 2
    out = arguments.out or path.with_suffix("")
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw(json.loads(path.read_text()))
    for name, picture in pictures.items():
        (out / f"{name}.png").write_bytes(picture)
    (out / "report.html").write_text(page(json.loads(path.read_text()), pictures))
    print(out / "report.html")
    return 0


def draw(found: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures of a result by name, PNG; one whose scenario was skipped is left out."""
    pictures: dict[str, Draw] = {
        "latency_over_rate": latency_over_rate,
        "recall_over_latency": recall_over_latency,
        "cost_by_stage": cost_by_stage,
    }
    drawn = {name: _picture(picture, found) for name, picture in pictures.items()}
    return {name: data for name, data in drawn.items() if data}


def _picture(picture: Draw, found: Mapping[str, Any]) -> bytes:
    figure, axes = pyplot.subplots(figsize=(8.6, 4.6), facecolor=PAPER)
    try:
        axes.set_facecolor(PAPER)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        if not picture(axes, found["details"]):
            return b""
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
        figure.tight_layout()
        out = io.BytesIO()
        figure.savefig(out, dpi=DOTS_PER_INCH, facecolor=PAPER, metadata={"Software": None})
        return out.getvalue()
    finally:
        pyplot.close(figure)


def latency_over_rate(axes: Axes, details: Mapping[str, Any]) -> bool:
    """Whole calls and the handler's own time at p50 and p99, over the rate that was offered."""
    runs = details.get("latency over rate", {}).get("runs", [])
    runs = runs or [part for part in [details.get("latency")] if part]
    if not runs:
        return False
    rates = [run["offered_per_s"] for run in runs]
    for colour, percentile in ((GREEN, "p50"), (ORANGE, "p99")):
        axes.plot(
            rates,
            [run["latency_ms"].get(percentile) for run in runs],
            "o-",
            color=colour,
            label=f"whole call, {percentile}",
        )
        handler = [run["stages_ms"].get("total", {}).get(percentile, float("nan")) for run in runs]
        axes.plot(rates, handler, "s--", color=colour, alpha=0.7, label=f"in the handler, {percentile}")
    axes.set(
        title="Latency over rate, one serving process on one core",
        xlabel="calls a second, by the clock",
        ylabel="milliseconds",
    )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=INK)
    return True


def recall_over_latency(axes: Axes, details: Mapping[str, Any]) -> bool:
    """The retriever at several widths, the plan that was published, and hnswlib alone beside it."""
    sweep = details.get("recall sweep", {})
    if not sweep.get("ours"):
        return False
    for name, points, colour in (("ours", sweep["ours"], GREEN), *_peers(sweep)):
        order = sorted(points, key=lambda point: float(point["us"]))
        axes.plot([p["us"] for p in order], [p["recall"] for p in order], "o-", color=colour, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    plan = details.get("recall", {})
    if "search_us_p50" in plan:
        axes.plot(
            plan["search_us_p50"],
            details["recall"]["recall_mean"],
            "*",
            color=INK,
            markersize=14,
            label="the published plan",
        )
    axes.set(
        title="Recall of the exact top-200 over time",
        xlabel="microseconds of one search",
        ylabel="recall@200",
    )
    axes.legend(frameon=False, labelcolor=INK)
    return True


def _peers(sweep: Mapping[str, Any]) -> list[tuple[str, list[Any], str]]:
    colours = (ORANGE, BROWN, OLIVE)
    return [
        (f"hnswlib, {name}", points, colour)
        for (name, points), colour in zip(sweep.get("hnswlib", {}).items(), colours, strict=False)
    ]


def cost_by_stage(axes: Axes, details: Mapping[str, Any]) -> bool:
    """Each stage's own time at p50 and p99, in the order of a request."""
    stages = {k: v for k, v in details.get("latency", {}).get("stages_ms", {}).items() if k != "total" and v}
    if not stages:
        return False
    names = list(stages)
    places = range(len(names))
    axes.barh(places, [stages[n]["p99"] for n in names], color=SAND, height=0.6, label="p99")
    axes.barh(places, [stages[n]["p50"] for n in names], color=STAGE_COLOURS[0], height=0.36, label="p50")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set(title="Cost by stage, at half of saturation", xlabel="milliseconds")
    axes.legend(frameon=False, labelcolor=INK)
    return True


def page(found: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """One HTML page with the table and the pictures in it."""
    machine, options = found["machine"], found["options"]
    rows = "".join(
        f"<tr class={t.verdict(found['metrics'][t.name]).split()[-1].lower()}><td>{t.name}<td>{html.escape(t.what)}"
        f"<td class=n>{_shown(found['metrics'][t.name])}<td class=n>{t.least:g}<td class=n>{t.aim:g}"
        f"<td>{t.verdict(found['metrics'][t.name])}"
        for t in TARGETS
    )
    images = "".join(
        f'<img alt="{name.replace("_", " ")}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in pictures.items()
    )
    said = f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}; {options['items']:,} items, norms {options['norms']}, "
    said += f"seed {options['seed']}; commit {found['commit']}{' with changes' if found['dirty'] else ''}, {found['start_time']}"
    skipped = "".join(
        f"<p>Not measured: {html.escape(name)}: {html.escape(why)}" for name, why in found["skipped"].items()
    )
    skipped += "".join(f"<p>Beware: {html.escape(text)}" for text in found["warnings"])
    return _PAGE.format(said=html.escape(said), rows=rows, images=images, skipped=skipped)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>Bench</title>
<meta name=viewport content="width=device-width"><style>
body {{ background: #faf7f0; color: #33291f; font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ border-bottom: 1px solid #ddd3c2; padding: .35rem .6rem; text-align: left }}
.n {{ text-align: right; font-variant-numeric: tabular-nums }} .missed td:last-child {{ color: #b4431f; font-weight: 600 }}
.reached td:last-child {{ color: #2f6b3c }} img {{ width: 100%; margin: 1.2rem 0 }}
</style><h1>Bench</h1><p>{said}</p>
<table><tr><th>metric<th>what<th>measured<th>at least<th>aim<th></tr>{rows}</table>{skipped}{images}</html>
"""

if __name__ == "__main__":
    raise SystemExit(main())
