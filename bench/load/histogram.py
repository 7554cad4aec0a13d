"""HDR histograms of times: fixed size, three digits anywhere, mergeable by whoever reads the encoded text."""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # ships no types

from bench.load.limits import HISTOGRAM_DIGITS, HISTOGRAM_MAX_US, HISTOGRAM_MIN_US, PERCENTILES


class Histogram:
    """Times in seconds go in, milliseconds come out. Counted in microseconds (see limits)."""

    def __init__(self, seconds: Iterable[float] = ()) -> None:
        self._histogram = HdrHistogram(HISTOGRAM_MIN_US, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS)
        for value in seconds:
            self.record(value)

    def record(self, seconds: float) -> None:
        """Counts one time; what lies outside the range counts as the range's end."""
        us = round(seconds * 1e6)
        self._histogram.record_value(min(max(us, HISTOGRAM_MIN_US), HISTOGRAM_MAX_US))

    @property
    def count(self) -> int:
        return int(self._histogram.total_count)

    def at(self, percentile: float) -> float:
        """Milliseconds at a percentile from 0 to 100; 0.0 of nothing."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000 if self.count else 0.0

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99, p99.9 and max in milliseconds; empty when nothing was counted: no time is not zero time."""
        if not self.count:
            return {}
        found = {name: self.at(percentile) for name, percentile in PERCENTILES.items()}
        return found | {"max": self._histogram.get_max_value() / 1000}

    def encoded(self) -> str:
        """HdrHistogram's own V2 text (base64 of deflate); values are microseconds."""
        return bytes(self._histogram.encode()).decode("ascii")

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        """The histogram of `encoded`."""
        made = cls()
        made._histogram.decode_and_add(text.encode("ascii"))
        return made
