"""Where the running system is: `reco up` leaves a note in its data folder, the other commands read it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import orjson
from reco.errors.v1 import error_reason_pb2

from runtime.errors import StateError
from runtime.rpc import MESSAGE_BYTES_MAX
from runtime.settings import Settings, load_settings
from runtime.stores import EmbeddedPostgres, EmbeddedValkey

NOTE = "running.json"
LOCK = "up.lock"


@contextmanager
def sole_owner(data_dir: Path) -> Iterator[None]:
    """The data folder, made if need be, for one `reco up` at a time. StateError when it can't be used or is taken."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / LOCK).open("a")
    except OSError as error:
        message = f"{data_dir.resolve()} can't be used ({error.strerror}); choose a folder with RECO_DATA_DIR"
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it however we end
        except BlockingIOError:
            message = f"`reco up` runs on {data_dir.resolve()} already; stop that one, or choose another folder with RECO_DATA_DIR"
            raise StateError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message) from None
        yield


def write_note(settings: Settings) -> Path:
    """Notes the stores' URLs; only the owner may read them, since a URL can hold a password."""
    note = settings.data_dir / NOTE
    note.touch(mode=0o600)
    note.write_bytes(orjson.dumps({"redis_url": settings.redis_url, "postgres_url": settings.postgres_url}))
    return note


def running_settings() -> Settings:
    """The settings of the system that runs here; StateError when none does and no URLs are set."""
    settings = load_settings()
    if settings.redis_url and settings.postgres_url:
        return settings
    try:
        note = orjson.loads((settings.data_dir / NOTE).read_bytes())
    except FileNotFoundError:
        message = (
            f"nothing runs on {settings.data_dir.resolve()}: start it with `reco up`, or set RECO_DATA_DIR, or "
            "RECO_REDIS_URL and RECO_POSTGRES_URL"
        )
        raise StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message) from None
    return load_settings(
        redis_url=settings.redis_url or note["redis_url"],
        postgres_url=settings.postgres_url or note["postgres_url"],
    )


@contextmanager
def stores_of(settings: Settings | None = None) -> Iterator[Settings]:
    """The settings of the system that runs here; where none does, its embedded stores run for as long as this.

    StateError when they can't, or when one URL is set and the other is not.
    """
    settings = settings or load_settings()
    if settings.redis_url or settings.postgres_url or (settings.data_dir / NOTE).exists():
        yield running_settings()
        return
    valkey = EmbeddedValkey(settings.data_dir)
    postgres = EmbeddedPostgres(settings.data_dir)
    with sole_owner(settings.data_dir):
        try:
            urls = {"redis_url": valkey.start(), "postgres_url": postgres.start()}
            yield settings.model_copy(update=urls)
        finally:
            postgres.stop()
            valkey.stop()


@contextmanager
def calls(service: Callable[[Any], Any], host: str, port: int) -> Iterator[Any]:
    """The stub `service` over a connection to one of our gRPC servers. Its calls wait: the generated types know asyncio only."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.enable_retries", 1)]
    with grpc.insecure_channel(f"{host}:{port}", options=options) as connection:
        yield service(connection)
