"""The ingest scenario by itself: some three minutes, a table, and a file in bench/results/ingest.

make bench-ingest
make bench-ingest FIRST=1      # before all other work on this machine; needs root
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import priority, results, targets
from bench.options import Options
from bench.processes import NotReadyError
from bench.scenarios import ingest
from bench.scenarios.context import cores
from runtime.errors import RecoError

FOLDER = results.FOLDER / "ingest"  # beside the whole runs: such a result has no other figures
WHY_NOT = "only the way in was measured"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs: for a look, not for a claim")
    parser.add_argument("--out", type=Path, help="folder of the result (default: bench/results/ingest)")
    parser.add_argument(
        "--first",
        action="store_true",
        help="goes before other work on the machine (real-time priority, needs root)",
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start, start_s = datetime.now(UTC), time.monotonic()
    try:
        size = ingest.QUICK if arguments.quick else ingest.FULL
        with priority.first([]) if arguments.first else contextlib.nullcontext():
            found = ingest.ingest(*cores(), size)
    except (RecoError, NotReadyError, RuntimeError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    took_s = time.monotonic() - start_s
    skipped = {"everything else": WHY_NOT}
    details = {"ingest": found.details}
    made = results.result(
        Options(), arguments.quick, arguments.first, start, found.metrics, details, skipped, [], took_s
    )
    print(targets.table(found.metrics, only=found.metrics))
    folder = arguments.out or (results.QUICK_FOLDER / "ingest" if arguments.quick else FOLDER)
    print(f"written to {results.write(made, folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
