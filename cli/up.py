"""`reco up`: everything at once, and nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Annotated

import psycopg
import typer
from reco.errors.v1 import error_reason_pb2
from rich.console import Console

from bundle.registry import active_version
from cli.load import job_of, result_of
from cli.loading.run import load_into
from cli.output import end_bars, notes
from cli.supervisor import Supervisor, Unit, check_ports, give_to_children, make_units
from cli.system import NOTE, sole_owner, write_note
from cli.tables import MOVIELENS
from cli.train import start_run, watch
from ingest.server import MIGRATIONS
from runtime.errors import RecoError, StateError
from runtime.log import configure_logging
from runtime.migrate import migrate
from runtime.postgres import open_pool
from runtime.settings import Settings, load_settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey
from training.dataset import DatasetError
from training.runs import Run

SAMPLE_USER = "1"


def up(
    sample: Annotated[
        str, typer.Option(help="`movielens`: when there is no model yet, load MovieLens-100k and train.")
    ] = "",
) -> None:
    """Start everything: the stores (embedded, unless their URLs are set), ingest, consumer, ranking, worker and gateway.

    Ctrl-C stops it all; the data stays in RECO_DATA_DIR (./data).
    """
    if sample not in ("", MOVIELENS):
        raise typer.BadParameter(
            f"there is no sample {sample!r}; there is `movielens`", param_hint="--sample"
        )
    settings = load_settings()
    configure_logging("up", settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with sole_owner(settings.data_dir):
        check_ports(settings)
        _run(settings, sample, stop)


def _run(settings: Settings, sample: str, stop: threading.Event) -> None:
    valkey = None if settings.redis_url else _embedded_valkey(settings)
    postgres = None if settings.postgres_url else EmbeddedPostgres(settings.data_dir)
    urls = {
        "redis_url": valkey.url if valkey else settings.redis_url,
        "postgres_url": postgres.url if postgres else settings.postgres_url,
    }
    settings = settings.model_copy(update=urls)
    give_to_children(settings)
    stores, processes = make_units(settings, valkey, postgres)
    supervisor = Supervisor([*stores, *processes])
    started_s = time.monotonic()
    try:
        Supervisor(stores).start(stop)
        asyncio.run(_migrate(settings))
        write_note(settings)
        Supervisor(processes).start(stop)
        _mark_started([*stores, *processes])
        supervisor.wait_ready(stop)
        if not stop.is_set():
            _tell(settings, time.monotonic() - started_s)
            _in_background(settings, sample, stop, started_s)
            supervisor.run(stop)
    finally:
        end_bars()
        notes.print("stopping ...")
        supervisor.stop()
        (settings.data_dir / NOTE).unlink(missing_ok=True)
        notes.print(f"stopped; the data is in {settings.data_dir.resolve()}", soft_wrap=True)


def _embedded_valkey(settings: Settings) -> EmbeddedValkey:
    if settings.durability == "replicas":
        message = "RECO_DURABILITY is replicas, but the embedded Valkey has none: set RECO_REDIS_URL, or choose always or everysec"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
    return EmbeddedValkey(settings.data_dir, settings.durability)


def _mark_started(units: list[Unit]) -> None:
    for unit in units:
        unit.started_s = time.monotonic()


async def _migrate(settings: Settings) -> None:
    async with open_pool(settings.postgres_url) as pool:
        await migrate(pool, MIGRATIONS)


def _tell(settings: Settings, seconds_s: float) -> None:
    """What runs where, and three lines to paste."""
    rest = f"http://{settings.host}:{settings.gateway_port}"
    ranking = f"{settings.host}:{settings.ranking_port}"
    base = settings.metrics_port_base
    rows = [
        ("REST", rest, "pages: / ; contract: /openapi.json"),
        ("ingest", f"{settings.host}:{settings.ingest_port}", "gRPC"),
        ("ranking", ranking, "gRPC"),
        (
            "metrics",
            f"http://{settings.host}:{base}/metrics",
            f"ingest; consumer {base + 1}, ranking {base + 2}, worker {base + 3}",
        ),
        ("data", str(settings.data_dir.resolve()), "logs in processes/"),
    ]
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[bold green]recommendation-engine is up[/bold green] after {seconds_s:.1f} s\n")
    for name, where, note in rows:
        out.print(f"  {name:<8} {where}  [dim]{note}[/dim]")
    out.print("\nPaste one of these:\n")
    path = f"/v1/users/{SAMPLE_USER}/recommendations"
    out.print(f"curl -s {rest}{path}", markup=False)
    call = "reco.ranking.v1.RankingService/Recommend"
    out.print(f'grpcurl -plaintext -d \'{{"user_id": "{SAMPLE_USER}"}}\' {ranking} {call}', markup=False)
    read = f"json.load(urllib.request.urlopen('{rest}{path}'))['items']"
    out.print(f'python3 -c "import json, urllib.request; print({read})"', markup=False)
    out.print("\nCtrl-C stops everything.\n")


def _in_background(settings: Settings, sample: str, stop: threading.Event, started_s: float) -> None:
    """Loads and trains beside the supervisor, in a thread that doesn't hold up the end."""
    if sample:
        threading.Thread(target=_fill, args=(settings, stop, started_s), daemon=True).start()


def _fill(settings: Settings, stop: threading.Event, started_s: float) -> None:
    try:
        if asyncio.run(_has_model(settings)):
            notes.print("A model is active already; nothing was loaded.")
            return
        _load_and_train(settings, started_s)
    except (RecoError, DatasetError, OSError, psycopg.Error) as error:
        if not stop.is_set():
            notes.print(f"the sample was not loaded: {error}", markup=False)


async def _has_model(settings: Settings) -> bool:
    async with open_pool(settings.postgres_url) as pool:
        return await active_version(pool) is not None


def _load_and_train(settings: Settings, started_s: float) -> None:
    fetching_s = time.monotonic()
    job = job_of(MOVIELENS)
    fetched_s = time.monotonic() - fetching_s
    result = result_of(load_into(settings, job), job)
    notes.print(f"{result['events_accepted']:,} events of MovieLens-100k are in the stream; training")
    run_id = start_run(settings, quick=False)
    run = watch(settings, run_id, lambda run: _tell_model(run, started_s + fetched_s))
    notes.print(
        f"training {run.state}: {run.model_version or 'no model'} {run.message}".rstrip(), markup=False
    )


def _tell_model(run: Run, started_s: float) -> None:
    seconds_s = time.monotonic() - started_s
    notes.print(
        f"model {run.model_version}, {seconds_s:.0f} s after the start (downloads left out): {run.message}",
        markup=False,
    )
