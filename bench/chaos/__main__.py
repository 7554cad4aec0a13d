"""Faults of every kind under load, and a count afterwards.

make chaos                                              # ten minutes, 240 faults, 1,200 events a second
make chaos SEED=11 CHAOS_S=60 FAULTS=30
python -m bench.chaos --seed 7 --show                   # the schedule, as JSON
python -m bench.chaos --schedule FILE                   # one that was kept, or altered by hand
python -m bench.chaos --broken acknowledge-before-write # a build that is wrong: the run must say so
python -m bench.chaos --durability everysec             # what that setting may lose when Valkey is killed
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench import results
from bench.chaos.broken import HOW
from bench.chaos.run import Options, chaos
from bench.chaos.schedule import Fault, draw
from runtime.errors import RecoError

SEED, SECONDS, FAULT_COUNT, RATE = 7, 600.0, 240, 1_200.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seed", type=int, default=SEED, help="of the schedule (default: %(default)s)")
    add("--seconds", type=float, default=SECONDS, help="of faults under load (default: %(default)g)")
    add("--faults", type=int, default=FAULT_COUNT, help="how many (default: %(default)s)")
    add("--rate", type=float, default=RATE, help="events a second (default: %(default)g)")
    add("--schedule", type=Path, help="a file of faults, as --show prints it, in place of drawn ones")
    add("--show", action="store_true", help="print the schedule and end")
    add("--broken", choices=sorted(HOW), default="", help="consumers are this build")
    add("--durability", choices=("always", "everysec"), default="always", help="(default: %(default)s)")
    add("--out", type=Path, help="a file for the report, as JSON")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    schedule = (
        [Fault(**each) for each in json.loads(arguments.schedule.read_text())] if arguments.schedule else None
    )
    if arguments.show:
        faults = schedule or draw(arguments.seed, arguments.seconds, arguments.faults)
        print(json.dumps([asdict(fault) for fault in faults], indent=1))
        return 0
    options = Options(
        arguments.seed,
        arguments.seconds,
        arguments.faults,
        arguments.rate,
        arguments.broken,
        durability=arguments.durability,
    )
    try:
        report = chaos(options, schedule)
    except (RecoError, TimeoutError) as error:
        print(f"chaos: {error}; the same again: --seed {arguments.seed}", file=sys.stderr)
        return 2
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({"machine": results.machine(), **report.to_json()}, indent=1) + "\n"
        )
    print("\n".join(report.lines()))
    return 1 if report.notes else 0


if __name__ == "__main__":
    raise SystemExit(main())
