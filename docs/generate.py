"""Writes docs/settings.md and docs/metrics.md from the code that they describe. `make docs` runs it; a test wants no difference."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from runtime import metrics
from runtime.settings import Settings

DOCS = Path(__file__).parent


def settings_page() -> str:
    """One row a setting, in the order of the class."""
    rows = [
        f"| `RECO_{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    head = [
        "# Settings",
        "",
        "Made from `runtime/settings.py` by `make docs`. Every process reads the same ones from its environment. A wrong one is",
        "named, with its rule, and nothing starts.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _default(value: object) -> str:
    return "(empty)" if value in ("", None) else f"`{value}`"


def metrics_page() -> str:
    """One row a metric, in the order of the catalogue."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    rows = [
        f"| `{m._name}{'_total' if m._type == 'counter' else ''}` | {m._type} | {', '.join(m._labelnames)} | {m._documentation} |"
        for m in found
    ]
    head = [
        "# Metrics",
        "",
        "Made from `runtime/metrics.py` by `make docs`. Times are in seconds. `reco up` prints where each process serves them.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
