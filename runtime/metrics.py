"""Every metric of every process, in one typed catalogue: name, unit, labels, meaning. docs/metrics.md is made from it.

Buckets are in seconds and reach from 50 us to 10 s, since answers take about a millisecond.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

REGISTRY = CollectorRegistry()

LATENCY_BUCKETS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
# A stage takes some 10 to 300 us; ratios of 1.5 to 2 keep an interpolated quantile within a third.
STAGE_BUCKETS_S = (
    0.000005, 0.00001, 0.00002, 0.00003, 0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.002,
    0.005, 0.01, 0.05, 0.25, 1.0,
)  # fmt: skip
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

RPC_SECONDS = Histogram(
    "reco_rpc_seconds", "Time inside the handler of one call.", ["method", "code"],
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
CALLS_OPEN = Gauge("reco_calls_open", "Calls that have come in and are not answered yet.", registry=REGISTRY)
CALLS_WAITING = Gauge("reco_calls_waiting", "Those of them whose handler has not begun.", registry=REGISTRY)
CALLS_WAITING_LIMIT = Gauge(
    "reco_calls_waiting_limit", "How many may wait before further ones are refused.", registry=REGISTRY
)
CALLS_REFUSED_TOTAL = Counter(
    "reco_calls_refused_total", "Calls refused since too many waited.", ["priority"], registry=REGISTRY
)
STAGE_SECONDS = Histogram(
    "reco_stage_seconds", "Time of one stage of one recommendation.", ["stage"],
    buckets=STAGE_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
ANSWER_DEGRADED_TOTAL = Counter(
    "reco_answer_degraded_total",
    "Answers that had to do without something.",
    ["degradation"],
    registry=REGISTRY,
)
ANSWER_ITEMS_TOTAL = Counter(
    "reco_answer_items_total",
    "Recommended items by the source they came from.",
    ["source"],
    registry=REGISTRY,
)
EVENTS_TOTAL = Counter(
    "reco_events_total", "Events by what became of them at the door.", ["outcome"], registry=REGISTRY
)
INGEST_BATCH_EVENTS = Histogram(
    "reco_ingest_batch_events", "Events in one write.", buckets=SIZE_BUCKETS, registry=REGISTRY
)
LAKE_FILES_TOTAL = Counter(
    "reco_lake_files_total",
    "Files of the lake by what became of them: compacted (into others), removed (expired or replaced).",
    ["outcome"],
    registry=REGISTRY,
)
LAKE_CHANGES_TOTAL = Counter(
    "reco_lake_changes_total", "Changes exported into the lake.", ["kind"], registry=REGISTRY
)
REDIS_MEMORY_SHARE = Gauge(
    "reco_redis_memory_share",
    "Share of Redis' maxmemory that is used, as ingest last saw it; events are refused above 0.8. 0: Redis has no maxmemory.",
    registry=REGISTRY,
)
SINK_BATCH_EVENTS = Histogram(
    "reco_sink_batch_events",
    "Events in one batch of a sink.",
    ["sink"],
    buckets=SIZE_BUCKETS,
    registry=REGISTRY,
)
SINK_WRITE_SECONDS = Histogram(
    "reco_sink_write_seconds", "Time to write one batch to a sink.", ["sink"],
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
SINK_LAG_EVENTS = Gauge(
    "reco_sink_lag_events", "Events in the stream that the sink has not acknowledged.", ["sink", "partition"],
    registry=REGISTRY,
)  # fmt: skip
SINK_LAG_SECONDS = Gauge(
    "reco_sink_lag_seconds", "Age of the oldest event in the stream that the sink has not acknowledged.",
    ["sink", "partition"], registry=REGISTRY,
)  # fmt: skip
CONSUMER_MEMBERS = Gauge(
    "reco_consumer_members", "Consumer processes that this one knows of.", registry=REGISTRY
)
CONSUMER_UNITS = Gauge(
    "reco_consumer_units", "Pairs of partition and sink that are this consumer's to carry.", registry=REGISTRY
)
SINK_RETRIES_TOTAL = Counter(
    "reco_sink_retries_total", "Batches that had to be written again.", ["sink"], registry=REGISTRY
)
DEAD_LETTERS_TOTAL = Counter(
    "reco_dead_letters_total",
    "Entries that could not be read and were set aside.",
    ["sink"],
    registry=REGISTRY,
)
DEAD_LETTERS_FILED_TOTAL = Counter(
    "reco_dead_letters_filed_total",
    "Of those, how many were moved from Redis to the lake.",
    registry=REGISTRY,
)
POSTGRES_DAYS_HELD = Gauge(
    "reco_postgres_days_held",
    "Days older than RECO_POSTGRES_EVENT_DAYS that stay in Postgres since the lake has not the same; the log has both figures.",
    registry=REGISTRY,
)
POSTGRES_DAYS_RETIRED_TOTAL = Counter(
    "reco_postgres_days_retired_total",
    "Days that left Postgres for good; the lake has them.",
    registry=REGISTRY,
)
FRESHNESS_SECONDS = Histogram(
    "reco_freshness_seconds", "From an event's acceptance to its being visible to serving.",
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
CATALOG_REFRESH_SECONDS = Histogram(
    "reco_catalog_refresh_seconds", "Time to follow the catalogue's changes once.",
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
CATALOG_ITEMS = Gauge("reco_catalog_items", "Items that serving knows.", registry=REGISTRY)
MODEL_INFO = Gauge("reco_model_info", "1 for the model that answers.", ["version"], registry=REGISTRY)
MODEL_SWAP_SECONDS = Histogram(
    "reco_model_swap_seconds", "From noticing an activated model to answering with it.",
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
MODEL_SWAP_PEAK_BYTES = Gauge(
    "reco_model_swap_peak_bytes", "Resident memory at the newest swap, with the model that came and the one that went.",
    registry=REGISTRY,
)  # fmt: skip
MODEL_REFUSED_TOTAL = Counter(
    "reco_model_refused_total", "Models that serving would not load.", ["reason"], registry=REGISTRY
)
RETRIEVAL_RECALL = Gauge(
    "reco_retrieval_recall", "Share of the exact best 200 that the loaded plan finds for recent users.",
    registry=REGISTRY,
)  # fmt: skip
RETRIEVAL_HIDDEN_SHARE = Gauge(
    "reco_retrieval_hidden_share", "Share of the model's items that may not be answered.", registry=REGISTRY
)
SURFACES_RELOADED_TOTAL = Counter(
    "reco_surfaces_reloaded_total", "New contents of the surface file, by whether they were taken.", ["outcome"],
    registry=REGISTRY,
)  # fmt: skip
AFTERWARDS_DROPPED_TOTAL = Counter(
    "reco_afterwards_dropped_total", "What was to be written after an answer, but did not fit the queue or could not be written.",
    ["kind"], registry=REGISTRY,
)  # fmt: skip
JOB_SECONDS = Histogram(
    "reco_job_seconds", "Time of one job.", ["job", "outcome"],
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800), registry=REGISTRY,
)  # fmt: skip
GATEWAY_SECONDS = Histogram(
    "reco_gateway_seconds", "Time of one REST request in the gateway.", ["route", "status"],
    buckets=LATENCY_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip


def serve_metrics(host: str, port: int) -> None:
    """Serves the catalogue at http://host:port/metrics from a daemon thread."""
    start_http_server(port, addr=host, registry=REGISTRY)
