"""Loads a server that runs and prints one JSON object: LoadResult (bench/load/result.py), or several of them.

python -m bench.load open --target grpc://127.0.0.1:8082 --rate 500 --seconds 30 --core 1
python -m bench.load closed --target http://127.0.0.1:8080 --callers 8
python -m bench.load saturation --target grpc://127.0.0.1:8082
python -m bench.load interleaved --target grpc://127.0.0.1:8082/empty --target grpc://127.0.0.1:8082/Recommend
python -m bench.load open --url 'http://127.0.0.1:9000/api/{user_id}/items' --rate 200      # another recommender
python -m bench.load flood --target grpc://127.0.0.1:8082 --rate 8000 --sheddable-share 0.5
python -m bench.load h2load --target grpc://127.0.0.1:8082 --callers 8
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from bench.load import h2load, runs, schedule, session, target, users
from bench.load.limits import IN_FLIGHT_MAX, TIMEOUT_S


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 2 for what the caller can put right, with a line that says what."""
    options = _parser().parse_args(arguments)
    try:
        session.pin(options.core)
        session.step_back(options.nice)
        result = _run(options)
    except (ValueError, h2load.MissingError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    targets = [
        target.parse(url, options.method, options.body, tuple(options.header), options.i_own_this_host)
        for url in options.target
    ]
    if options.kind != "interleaved" and len(targets) != 1:
        raise ValueError("give one --target; several are for interleaved runs")
    plan = runs.Plan(
        users.read(options.users, options.user_format), options.seconds, options.warm_up_s, options.seed,
        options.connections, options.timeout_s,
    )  # fmt: skip
    match options.kind:
        case "open":
            result = runs.open_run(targets[0], plan, options.rate, options.arrivals, options.in_flight_max)
            return result.to_json()
        case "closed":
            return runs.closed_run(targets[0], plan, options.callers).to_json()
        case "saturation":
            return runs.saturation_run(targets[0], plan)
        case "flood":
            return runs.flood_run(targets[0], plan, options.rate, options.arrivals, options.sheddable_share)
        case "h2load":
            return h2load.run(targets[0], plan.users, options.callers, options.connections, plan.seconds)
    return runs.interleaved_run(targets, plan, options.calls, options.warm_up_calls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("open", "closed", "saturation", "interleaved", "flood", "h2load"):
        _add_common(kinds.add_parser(kind))
    for kind in ("open", "flood"):
        opened = kinds.choices[kind]
        opened.add_argument("--rate", type=float, required=True, help="calls/s that are due, answered or not")
        opened.add_argument(
            "--arrivals", choices=schedule.ARRIVALS, default="poisson", help="(default: %(default)s)"
        )
    kinds.choices["flood"].add_argument(
        "--sheddable-share", type=float, default=0.0, help="of the calls (default: %(default)s)"
    )
    kinds.choices["open"].add_argument(
        "--in-flight-max", type=int, default=IN_FLIGHT_MAX, help="beyond it, calls count as UNSENT"
    )
    for kind in ("closed", "h2load"):
        kinds.choices[kind].add_argument(
            "--callers", type=int, default=8, help="at once (default: %(default)s)"
        )
    between = kinds.choices["interleaved"]
    between.add_argument(
        "--calls", type=int, default=2_000, help="counted, of each target (default: %(default)s)"
    )
    between.add_argument(
        "--warm-up-calls", type=int, default=200, help="of each target (default: %(default)s)"
    )
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--target",
        "--url",
        action="append",
        required=True,
        help="grpc://host:port[/Recommend|/empty], or http://host:port[/path/{user_id}] of any recommender",
    )
    add(
        "--users",
        default="1000",
        help="a file of ids, one a line, or how many generated users (default: %(default)s)",
    )
    add("--user-format", default=users.FORMAT, help="of a generated user's id (default: %(default)s)")
    add("--seconds", type=float, default=10.0, help="that count (default: %(default)s)")
    add("--warm-up-s", type=float, default=2.0, help="before them, not counted (default: %(default)s)")
    add("--seed", type=int, default=7, help="of arrivals and users (default: %(default)s)")
    add("--core", type=int, help="run on this core alone")
    add("--nice", type=int, default=0, help="let others on the core go first, 0 to 19 (default: %(default)s)")
    add("--connections", type=int, default=8, help="(default: %(default)s)")
    add("--timeout-s", type=float, default=TIMEOUT_S, help="of a call (default: %(default)s)")
    add("--method", default="GET", choices=target.METHODS, help="of HTTP targets (default: %(default)s)")
    add("--body", default="", help="of HTTP targets; {user_id} is replaced")
    add("--header", action="append", default=[], help="'Name: value' of HTTP targets, any number of times")
    add("--i-own-this-host", action="store_true", help="load an address that is neither loopback nor private")


if __name__ == "__main__":
    raise SystemExit(main())
