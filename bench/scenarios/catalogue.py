"""Items that come and go through the real ingest: how soon each of two serving processes knows, and what it costs under load.

An item counts as visible when both processes recommend it, and as gone when the answers that were asked for at the moment of the
acknowledgement have come without it, of both and whoever asks; their own time counts. The same ids are used in every run: deleted
items keep their rows, and the stores are kept from run to run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from reco.ingest.v1.ingest_service_pb2 import DeleteItemsRequest, UpsertItemsRequest
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from reco.ingest.v1.item_pb2 import Item
from reco.ranking.v1.ranking_service_pb2 import Degradation, RecommendRequest, RecommendResponse
from reco.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from bench.generate.attributes import user_id
from bench.load.answer import OK
from bench.processes import Server, resident_bytes
from bench.scenarios.context import Context, Found
from bench.scenarios.speed import LOAD_SHARE, slim

TAG = "bench-live"  # of every item that comes and goes
SAMPLE_SHARE = 1 / 15  # of a run's calls: items that come, and go, one by one
CHANGES_A_CALL = 66  # of a run's calls: 100,000 changes at full size, half of them upserts
BATCH_COUNT = 500  # items of one change under load
PAGE_SIZE = 200
RATE_MIN_PER_S = 50.0  # of the load, where saturation was not measured
VISIBLE_S_MAX = 10.0  # then it is told as this
CALL_WAIT_S_MAX = 30.0


def catalogue(context: Context, server: Server) -> Found:
    """One by one first, on an idle system; then thousands under load, with as many calls as `latency` is told at."""
    with ExitStack() as stack:
        second = stack.enter_context(context.system.serving({context.load_core}))
        ingest = stack.enter_context(context.system.ingest({context.load_core}))
        context.watched |= {"second": second.pids, "ingest": ingest.pids}
        shop = stack.enter_context(shop_of(ingest, [server, second]))
        samples = [_come_and_go(shop, i) for i in range(max(5, round(context.timing.calls * SAMPLE_SHARE)))]
        churn = _under_load(context, server, shop)
        after = [_come_and_go(shop, i) for i in range(5)]
    del context.watched["second"], context.watched["ingest"]
    visible = [sample["visible_s"] for sample in samples]
    everything = [*samples, *churn["samples"], *after]
    metrics = {
        "item_visible_s_p99": float(np.percentile(visible, 99)),
        "item_gone_s_max": max(sample["gone_s"] for sample in everything),
        "item_still_shown_count": sum(sample["still_shown_count"] for sample in everything),
        "catalogue_failed_count": float(churn["failed_count"]),
        "catalogue_short_count": float(churn["short_count"]),
    }
    return Found(metrics, {"idle": _summary(samples), "churn": churn, "after": _summary(after)})


@dataclass(frozen=True)
class Shop:
    """Who takes items, and who recommends them."""

    ingest: Any  # IngestServiceStub
    ranking: list[Any]  # RankingServiceStub; the stubs know them as those of grpc.aio

    def upsert(self, item_ids: Sequence[str]) -> None:
        """Items of one tag, without a word about when they were made: they are new."""
        items = [Item(id=item_id, title=item_id, tags=[TAG]) for item_id in item_ids]
        self.ingest.UpsertItems(UpsertItemsRequest(items=items), timeout=CALL_WAIT_S_MAX)

    def delete(self, item_ids: Sequence[str]) -> None:
        self.ingest.DeleteItems(DeleteItemsRequest(item_ids=item_ids), timeout=CALL_WAIT_S_MAX)

    def shows(self, stub: Any, item_id: str, **fields: str) -> bool:
        """Whether a page has the item: of a user, of nobody, or behind a filter that it passes."""
        answer = stub.Recommend(RecommendRequest(page_size=PAGE_SIZE, **fields), timeout=CALL_WAIT_S_MAX)  # type: ignore[arg-type]  # texts
        return _has(answer, item_id)

    def shown_now(self, item_id: str) -> int:
        """How many answers have the item, of both processes and each way to ask, all asked at this moment."""
        requests = [RecommendRequest(page_size=PAGE_SIZE, **asker) for asker in ASKERS]  # type: ignore[arg-type]  # texts
        calls = [
            stub.Recommend.future(each, timeout=CALL_WAIT_S_MAX) for stub in self.ranking for each in requests
        ]
        return sum(_has(call.result(), item_id) for call in calls)


def _has(answer: RecommendResponse, item_id: str) -> bool:
    return any(item.item_id == item_id for item in answer.items)


@contextmanager
def shop_of(ingest: Server, servers: Sequence[Server]) -> Iterator[Shop]:
    """The shop of an ingest server and of serving processes; its channels are closed at the end."""
    with ExitStack() as stack:
        channels: list[Any] = [  # the stubs know those of grpc.aio alone
            stack.enter_context(grpc.insecure_channel(each.address)) for each in (ingest, *servers)
        ]
        yield Shop(IngestServiceStub(channels[0]), [RankingServiceStub(channel) for channel in channels[1:]])


FILTERED = {"filter": f'tags:"{TAG}"'}
ASKERS: tuple[dict[str, str], ...] = ({"user_id": user_id(0)}, {}, FILTERED)


def _come_and_go(shop: Shop, number: int) -> dict[str, float]:
    """One item: seconds until both processes recommend it, alone and among all; seconds until no answer has it."""
    item_id = f"{TAG}-one-{number}"
    sent_s = time.perf_counter()
    shop.upsert([item_id])
    upserted_s = time.perf_counter()
    visible_s = _until(shop, lambda stub: shop.shows(stub, item_id, **FILTERED), upserted_s)
    unfiltered_s = _until(shop, lambda stub: shop.shows(stub, item_id), upserted_s)
    shop.delete([item_id])
    deleted_s = time.perf_counter()
    still = shop.shown_now(item_id)
    gone_s = time.perf_counter() - deleted_s
    if still:
        gone_s = _until(shop, lambda stub: not shop.shown_now(item_id), deleted_s)
    return {
        "visible_s": visible_s, "visible_unfiltered_s": unfiltered_s, "gone_s": gone_s, "still_shown_count": float(still),
        "upsert_call_s": upserted_s - sent_s,
    }  # fmt: skip


def _until(shop: Shop, holds: Callable[[Any], bool], start_s: float) -> float:
    """Seconds from `start_s` until it holds for each process; VISIBLE_S_MAX where it does not come to that."""
    for stub in shop.ranking:
        while not holds(stub):
            if time.perf_counter() - start_s > VISIBLE_S_MAX:
                return VISIBLE_S_MAX
    return time.perf_counter() - start_s


def _under_load(context: Context, server: Server, shop: Shop) -> dict[str, Any]:
    """Thousands of changes while users are answered: failed calls, short pages, how soon an item goes, memory."""
    churn = Churn(shop, round(context.timing.calls * CHANGES_A_CALL))
    before, start_s, runs = resident_bytes(server.pids), time.perf_counter(), []
    rate = max(RATE_MIN_PER_S, context.saturation_per_s * LOAD_SHARE)
    churn.start()
    while churn.is_alive():
        seconds = max(1.0, context.timing.seconds / 4)
        runs.append(
            slim(context.load("open", f"grpc://{server.address}", rate=round(rate, 1), seconds=seconds))
        )
    churn.join()
    if churn.error is not None:
        raise RuntimeError(f"the changes ended with: {churn.error}")
    statuses = [run["statuses"] for run in runs]
    return {
        "changes": churn.count, "seconds": time.perf_counter() - start_s, "samples": churn.samples,
        "failed_count": sum(n for each in statuses for name, n in each.items() if name != OK) + churn.failed_count,
        "short_count": churn.short_count, "asked_count": churn.asked_count,
        "bytes_before": before, "bytes_after": resident_bytes(server.pids), "runs": runs,
    }  # fmt: skip


class Churn(threading.Thread):
    """Upserts items in batches and deletes them again; between two batches looks at pages, and at one item that goes."""

    def __init__(self, shop: Shop, count: int) -> None:
        super().__init__(daemon=True)
        self._shop, self.count = shop, count
        self.samples: list[dict[str, float]] = []
        self.failed_count = self.short_count = self.asked_count = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            done = 0
            while done < self.count:
                done += self._change(done // 2)
        except Exception as error:
            self.error = error

    def _change(self, first: int) -> int:
        count = min(BATCH_COUNT, (self.count - 2 * first + 1) // 2)
        batch = [f"{TAG}-{number}" for number in range(first, first + count)]
        self._shop.upsert(batch)
        self._shop.delete(batch[::2])
        for stub in self._shop.ranking:
            self._look(stub, batch[0])
        self._shop.delete(batch[1::2])
        if first % (10 * BATCH_COUNT) == 0:
            self.samples.append(_come_and_go(self._shop, 0))
        return 2 * count

    def _look(self, stub: Any, gone: str) -> None:
        self.asked_count += 1
        request = RecommendRequest(page_size=PAGE_SIZE, user_id=user_id(self.asked_count % 100))
        try:
            answer = stub.Recommend(request, timeout=CALL_WAIT_S_MAX)
        except grpc.RpcError:
            self.failed_count += 1
            return
        shown = {item.item_id for item in answer.items}
        self.failed_count += gone in shown  # deleted before the call
        self.short_count += len(shown) < PAGE_SIZE or Degradation.DEGRADATION_SHORT in answer.degradations


def _summary(samples: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of each figure the median, the 99th percentile and the largest."""
    found = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        found[name] = {
            "p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99)), "max": max(values),
        }  # fmt: skip
    return found
