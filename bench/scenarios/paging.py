"""Fifty pages of each user while items come and go and the surface file is rewritten: does any item come twice? And what rules cost.

A serving process of its own has a surface file. Time is the stage's own, from Server-Timing, of calls one after the other: with all
rules on and with none, in turns.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from reco.ingest.v1.ingest_service_pb2 import DeleteItemsRequest, UpsertItemsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from reco.ingest.v1.item_pb2 import Item
from reco.ranking.v1.ranking_service_pb2 import RecommendRequest, RecommendResponse

from bench.generate.attributes import item_id, user_id
from bench.load import server_timing
from bench.load.target import RPCS
from bench.processes import Server
from bench.scenarios.context import Context, Found

PAGES: Final = 50
PAGE_SIZE: Final = 20
USER_SHARE: Final = 1 / 30  # of a run's calls: users who turn fifty pages, 50 at full size
TAG = "bench-paging"  # of the items that come and go
CHANGE_COUNT = 50  # items of one change
CHANGE_PAUSE_S = 0.2
CALL_WAIT_S_MAX = 30.0

ALL = "all"  # the surface with every rule; another has none
FILE = f"""
# version {{version}}
[surfaces.{ALL}]
filter = 'lot<900000'
diversity = 0.2
max_per_category = 5
min_score = -1e6
exploration = 0.05
quotas = {{{{ trending = 20, new = 10 }}}}
rotation = {{{{ rate = 0.1, time_s = 3600 }}}}
[[surfaces.{ALL}.boosts]]
filter = 'rating>20'
weight = 0.1
[[surfaces.{ALL}.boosts]]
filter = 'brand:"a" OR colour:"b"'
weight = -0.1
[[surfaces.{ALL}.pins]]
item = "{item_id(7)}"
place = 3
[[surfaces.{ALL}.pins]]
item = "{item_id(70)}"
place = 45
[[surfaces.{ALL}.promotions]]
filter = 'lot<200000'
share = 0.1
"""


def paging(context: Context) -> Found:
    """Pages first, then the cost of a first page."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="reco-surfaces-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "surfaces.toml"
        path.write_text(FILE.format(version=0))
        server = stack.enter_context(
            context.system.serving({context.serving_core}, RECO_SURFACES_FILE=str(path))
        )
        ingest = stack.enter_context(context.system.ingest({context.load_core}))
        caller = Caller(stack.enter_context(grpc.insecure_channel(server.address)))
        count = max(4, round(context.timing.calls * USER_SHARE))
        with Changes(ingest, path) as changes:
            lists = [_turned(caller, user_id(user), ALL if user % 2 else "") for user in range(count)]
        costs = _costs(caller, count, context.timing.calls)
    metrics = {
        "page_repeat_count": float(sum(each["repeated"] for each in lists)),
        "page_ended_count": float(sum(each["pages"] < PAGES for each in lists)),
        "select_rules_ms_p50": costs[ALL]["select_p50"],
        "select_rules_ms_p99": costs[ALL]["select_p99"],
    }
    return Found(metrics, {"lists": lists, "costs": costs, "changes": changes.count})


class Caller:
    """Asks for pages; remembers what the last one cost."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._recommend = channel.unary_unary(
            RPCS["Recommend"],
            request_serializer=RecommendRequest.SerializeToString,
            response_deserializer=RecommendResponse.FromString,
        )
        self.stages_ms: dict[str, float] = {}

    def page(self, **fields: Any) -> Any:
        """One page."""
        request = RecommendRequest(page_size=PAGE_SIZE, **fields)
        answer, call = self._recommend.with_call(request, timeout=CALL_WAIT_S_MAX)
        told = {name: value for name, value in call.trailing_metadata() or ()}  # noqa: C416 - gRPC has a type of its own
        self.stages_ms = server_timing.parse(str(told.get("server-timing", "")))
        return answer


def _turned(caller: Caller, user: str, surface: str) -> dict[str, Any]:
    """One user's fifty pages: how many there were, how many items came twice, and the last page's milliseconds."""
    token, shown, pages = "", list[str](), 0
    while not pages or (token and pages < PAGES):
        answer = caller.page(user_id=user, surface=surface, page_token=token)
        shown += [item.item_id for item in answer.items]
        token = answer.next_page_token
        pages += 1
    return {
        "surface": surface, "pages": pages, "items": len(shown), "repeated": len(shown) - len(set(shown)),
        "last_ms": caller.stages_ms.get("total", 0.0),
    }  # fmt: skip


class Changes(threading.Thread):
    """Upserts and deletes items through ingest and rewrites the surface file, until the end of the block."""

    def __init__(self, ingest: Server, path: Path) -> None:
        super().__init__(daemon=True)
        self._address, self._path = ingest.address, path
        self._ending = threading.Event()
        self.count = 0
        self.error: Exception | None = None

    def __enter__(self) -> Changes:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self.join()
        if self.error is not None:
            raise RuntimeError(f"the changes ended with: {self.error}")

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address) as channel:
                stub: Any = IngestServiceStub(channel)  # type: ignore[arg-type]  # the stubs know asyncio's channels alone
                ids = [f"{TAG}-{number}" for number in range(CHANGE_COUNT)]
                while not self._ending.is_set():
                    self._change(stub, ids)
                stub.DeleteItems(DeleteItemsRequest(item_ids=ids), timeout=CALL_WAIT_S_MAX)
        except Exception as error:
            self.error = error

    def _change(self, stub: Any, ids: list[str]) -> None:
        items = [Item(id=each, title=each, tags=[TAG]) for each in ids]
        stub.UpsertItems(UpsertItemsRequest(items=items), timeout=CALL_WAIT_S_MAX)
        self._ending.wait(CHANGE_PAUSE_S)
        stub.DeleteItems(DeleteItemsRequest(item_ids=ids[::2]), timeout=CALL_WAIT_S_MAX)
        self.count += 1
        # In one step, as an editor or a ConfigMap does: half a file is a wrong one.
        following = self._path.with_suffix(".new")
        following.write_text(FILE.format(version=self.count))
        following.replace(self._path)
        self._ending.wait(CHANGE_PAUSE_S)


def _costs(caller: Caller, users: int, calls: int) -> dict[str, dict[str, float]]:
    """By surface: milliseconds of the stage and of the whole handler."""
    found: dict[str, list[tuple[float, float]]] = {"": [], ALL: []}
    for number in range(calls):
        for surface, times_ms in found.items():
            caller.page(user_id=user_id(number % users), surface=surface)
            times_ms.append((caller.stages_ms.get("select", 0.0), caller.stages_ms.get("total", 0.0)))
    return {
        surface: {
            f"{name}_p{p}": float(np.percentile([each[column] for each in times_ms], p))
            for column, name in enumerate(("select", "total"))
            for p in (50, 99)
        }
        for surface, times_ms in found.items()
    }
