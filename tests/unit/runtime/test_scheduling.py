"""How a serving process asks to be scheduled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = "from runtime.lifecycle import work_in_batches; import os; {first}; work_in_batches(); print(os.sched_getscheduler(0))"


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
@pytest.mark.parametrize(
    ("first", "expected"),
    [("pass", "SCHED_BATCH"), ("os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))", "SCHED_IDLE")],
    ids=["nobody has chosen", "someone has chosen"],
)
def test_policy_when_asked_for_batches_is_theirs_unless_it_was_chosen(first: str, expected: str) -> None:
    command = [sys.executable, "-c", ASK.format(first=first)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(found.stdout) == getattr(os, expected)
