"""What a server says of its own time: the Server-Timing header (W3C, "Server Timing", section 2.1)."""

from __future__ import annotations

import contextlib
import math
import re

QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"')


def parse(text: str) -> dict[str, float]:
    """`profile;dur=0.081, total;dur=0.512` -> milliseconds by name; metrics without a duration are left out."""
    if '"' in text:
        text = QUOTED.sub(lambda match: re.sub("[,;]", " ", match[1]), text)
    found: dict[str, float] = {}
    for metric in text.split(","):
        name, *params = (part.strip() for part in metric.split(";"))
        for param in params:
            key, _, value = param.partition("=")
            if name and key.strip().lower() == "dur":
                with contextlib.suppress(ValueError):
                    _keep(found, name, float(value))
    return found


def _keep(found: dict[str, float], name: str, ms: float) -> None:
    if math.isfinite(ms) and ms >= 0:
        found.setdefault(name, ms)
