"""What the run under faults has shown, in the tests' own output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPORT = Path(__file__).parent.parent.parent / ".cache" / "reports" / "chaos.json"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of this run's report."""
    if REPORT.exists():
        told = json.loads(REPORT.read_text())
        names = (
            "seed",
            "seconds",
            "fault_count",
            "acknowledged",
            "retries",
            "duplicates_removed",
            "lost",
            "doubled",
        )
        figures = json.dumps(
            {name: told[name] for name in names} | {"profiles_wrong": told["profiles_wrong"]}
        )
        terminalreporter.write_line(f"faults under load -> nothing acknowledged is lost: {figures}")
