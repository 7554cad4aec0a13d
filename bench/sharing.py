"""What serving processes over the same data take: one, two that were started, two that were forked. And how soon each is ready.

python -m bench.sharing --items 1000000          # docs/decisions/0009-serving-edge.md has the table
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from bench.generate.attributes import user_id
from bench.options import add_arguments, from_arguments
from bench.processes import KIB, Server
from bench.system import System, running

CHANNELS, CALLS = 16, 1_000  # before memory is read: what requests touch is counted
MIB = 1024 * 1024
LARGEST = 12  # mappings shown
FIELDS = ("Rss", "Pss", "Private_Clean", "Private_Dirty")


def rollup(pid: int) -> Counter[str]:
    """Bytes of the process by field of smaps_rollup."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in FIELDS:
            found[name] = int(value.split()[0]) * KIB
    return found


def private_by_mapping(pid: int) -> Counter[str]:
    """Bytes that only this process has, by file; memory without a file by its kind."""
    found: Counter[str] = Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head, *rest = line.split()
        if head.endswith(":"):
            if head.startswith("Private_"):
                found[name] += int(rest[0]) * KIB
        else:
            name = " ".join(rest[4:]) or "anonymous"
    return found


def ask(server: Server, users: int) -> None:
    """Calls over many connections, so that each process of the server answers some."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    for channel_index in range(CHANNELS):
        with grpc.insecure_channel(server.address, options=options) as channel:
            call: Any = RankingServiceStub(channel).Recommend  # type: ignore[arg-type]  # the stubs know aio's channels only
            for i in range(channel_index, CALLS, CHANNELS):
                call(RecommendRequest(user_id=user_id(i % users)), wait_for_ready=True)


def told(name: str, servers: list[Server]) -> int:
    """Prints a row and returns what all their processes take, shared pages counted once."""
    pids = [pid for server in servers for pid in server.pids]
    each = [rollup(pid) for pid in pids]
    pss = sum(found["Pss"] for found in each)
    private = [(found["Private_Clean"] + found["Private_Dirty"]) // MIB for found in each]
    ready = ", ".join(f"{server.ready_s:.1f}" for server in servers)
    resident = [found["Rss"] // MIB for found in each]
    print(f"| {name} | {resident} | {private} | {pss // MIB} | {ready} |", flush=True)
    return pss


def measure(system: System, users: int) -> None:
    """All rows; a first start writes the catalogue's snapshot, which the others map."""
    with system.serving(None):
        system.wait_for_snapshot()
    print("| what | resident, MiB | private, MiB | all together, MiB | ready, s |\n|---|---|---|---|---|")
    with system.serving(None) as first:
        ask(first, users)
        alone = told("one", [first])
        with system.serving(None) as second:
            ask(second, users)
            both = told("two, started", [first, second])
            mappings = private_by_mapping(second.pids[0]).most_common(LARGEST)
    with system.serving(None, RECO_RANKING_PROCESSES="2") as forked:
        ask(forked, users)
        two = told("two, forked (the parent first)", [forked])
        of_child = private_by_mapping(forked.pids[-1]).most_common(LARGEST)
    print(f"second_process_share: started {both / alone - 1:.3f}, forked {two / alone - 1:.3f}")
    for name, found in (("started", mappings), ("forked", of_child)):
        rows = ", ".join(f"{Path(mapping).name} {size / MIB:.1f}" for mapping, size in found)
        print(f"private in the second, {name}, MiB: {rows}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = from_arguments(parser.parse_args())
    with running(options) as system:
        measure(system, options.users)


if __name__ == "__main__":
    main()
