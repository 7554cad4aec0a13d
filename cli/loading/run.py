"""The flow of a load: read, send, set aside, remember; the next run goes on behind what was acknowledged."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from google.protobuf.message import Message
from reco.errors.v1 import error_reason_pb2
from reco.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from rich.progress import Progress as Bar
from rich.progress import TaskProgressColumn, TextColumn

from cli.loading import checkpoint
from cli.loading.checkpoint import SAMPLE_COUNT_MAX, Checkpoint, Progress
from cli.loading.events import EventMaker
from cli.loading.items import UnknownItems, to_item
from cli.loading.mapping import EventMapping
from cli.loading.rejected import SUFFIX, Rejected
from cli.loading.sender import Sender, Sent
from cli.output import notes, progress_bar
from cli.system import calls
from ingest.limits import DEDUPLICATION_WINDOW_S
from runtime.errors import StateError
from runtime.postgres import CONNECT_WAIT_S_MAX, DATABASE
from runtime.settings import Settings
from training.columns import ItemColumns, RowError, map_item
from training.dataset import DatasetError
from training.tables import START, Place, Row, open_table

CHECKPOINT_SUFFIX = ".checkpoint.json"
BATCH_COUNT = 1_000  # the contract's maximum
BATCH_BYTES_MAX = 2 << 20  # half of what a gRPC message may have, so that one long event more does no harm
CHECKPOINT_ROWS = (
    10_000  # between two; a kill sends so many again, some half a second's worth, and their ids are known
)

Make = Callable[[int, Row], Message]


@dataclass(frozen=True)
class Job:
    """What to load, and how to read it."""

    events: Path
    mapping: EventMapping
    items: Path | None = None
    item_columns: ItemColumns = field(default_factory=ItemColumns)
    from_start: bool = False
    work_folder: Path | None = None  # of the checkpoint and of rejected rows; None: that of the file

    def beside(self, path: Path, suffix: str) -> Path:
        """A file of ours that goes with one of the sources."""
        return (self.work_folder or path.parent) / f"{path.name}{suffix}"

    @property
    def checkpoint(self) -> Path:
        """Where the progress is kept."""
        return self.beside(self.events, CHECKPOINT_SUFFIX)

    def rejected(self, path: Path) -> Path:
        """Where the rows of a source that were not taken are kept."""
        return self.beside(path, SUFFIX)


@dataclass
class Batch:
    """Rows that go together: the good ones as messages, the others with their reasons, and the place behind them all."""

    messages: list[Any] = field(default_factory=list)
    rows: list[tuple[int, Row]] = field(default_factory=list)  # of the messages
    bad: list[tuple[int, str, str, Row]] = field(default_factory=list)
    byte_count: int = 0
    end: Place = START

    def is_full(self) -> bool:
        """Whether it must be sent."""
        return len(self.messages) + len(self.bad) >= BATCH_COUNT or self.byte_count >= BATCH_BYTES_MAX


def load_into(settings: Settings, job: Job) -> Checkpoint:
    """Loads the items, then the events, from where an earlier run came to.

    Raises DatasetError for a file that can't be read, StateError when the file is being loaded, grpc.RpcError when the
    system does not take it. What was acknowledged until then is in the checkpoint.
    """
    with _alone(job.events), calls(IngestServiceStub, settings.host, settings.ingest_port) as stub:
        _refuse_unwritable(job)
        state = _begin(settings, job)
        sender = Sender(stub, UnknownItems(settings.postgres_url))
        save = _saver(state, job.checkpoint)
        if job.items:
            columns = job.item_columns
            wanted = [columns.item, columns.categories, columns.released, columns.title]
            make: Make = lambda _, row: to_item(map_item(row, columns))  # noqa: E731
            _pass(job.items, job.rejected(job.items), wanted, make, sender.send_items, state.items, save)
        events = EventMaker(job.mapping)
        send = _known_first(settings.postgres_url, state, sender.send_events)
        _pass(
            job.events,
            job.rejected(job.events),
            [*job.mapping.columns.values()],
            events.make,
            send,
            state.events,
            save,
        )
        job.checkpoint.unlink(missing_ok=True)
    if not state.events.accepted + state.events.duplicate + state.events.refused:
        raise DatasetError(f"{job.events} holds no event that can be read; see --map and --mapping")
    return state


def _refuse_unwritable(job: Job) -> None:
    """Before the first row, not at the first checkpoint."""
    for path in (job.events, *([job.items] if job.items else [])):
        folder = job.beside(path, "").parent
        if not os.access(folder, os.W_OK | os.X_OK):
            message = f"{folder} can't be written, where the checkpoint and rejected rows go: choose another with --work-folder"
            raise StateError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message)
    if job.items and job.rejected(job.items) == job.rejected(job.events):
        raise DatasetError(
            f"{job.items} and {job.events} have one name: leave --work-folder out, or rename one"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One load of a file at a time: two would write one checkpoint. The kernel lets go of it however we end."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{path} is being loaded by another `reco load`; wait for its end"
            raise StateError(error_reason_pb2.ERROR_REASON_UNSPECIFIED, message) from None
        yield


def _begin(settings: Settings, job: Job) -> Checkpoint:
    """Where to go on, said on standard error; a checkpoint of anything else is not used."""
    identity = {
        "target": _target(settings.postgres_url),
        "events": checkpoint.identity_of(job.events),
        "items": checkpoint.identity_of(job.items) if job.items else None,
        "mapping": repr((job.mapping, job.item_columns)),
    }
    path = job.checkpoint
    found = checkpoint.read(path)
    if found is None or job.from_start:
        return Checkpoint(identity)
    changed = [name for name, value in identity.items() if found.identity.get(name) != value]
    if changed:
        notes.print(f"{path} is of another {changed[0]}: loading from the start", markup=False)
        return Checkpoint(identity)
    notes.print(f"going on behind row {found.events.place.row:,} of {job.events} ({path})", markup=False)
    return found


def _target(postgres_url: str) -> str:
    """Tells systems apart, also one that was emptied or set back: what it acknowledged is not in the new one."""
    query = f"SELECT {DATABASE}, 'items'::regclass::oid"
    with psycopg.connect(postgres_url, connect_timeout=CONNECT_WAIT_S_MAX) as connection:
        row = connection.execute(query.encode()).fetchone()
    return "/".join(map(str, row or ()))


def _saver(state: Checkpoint, path: Path) -> Callable[[], None]:
    def save() -> None:
        state.write(path)

    return save


def _known_first(
    postgres_url: str, state: Checkpoint, send: Callable[[Sequence[Any]], Sent]
) -> Callable[[Sequence[Any]], Sent]:
    """The door remembers ids for some hours. When a load goes on later, Postgres says what of its first rows came in."""
    again_until = state.events.place.row + CHECKPOINT_ROWS + 2 * BATCH_COUNT
    if not state.write_time_s or time.time() - state.write_time_s < DEDUPLICATION_WINDOW_S / 2:
        return send

    def send_unknown(events: Sequence[Any]) -> Sent:
        if state.events.place.row >= again_until:
            return send(events)
        with psycopg.connect(postgres_url, connect_timeout=CONNECT_WAIT_S_MAX) as connection:
            ids = [event.id for event in events]
            found = connection.execute("SELECT event_id FROM events WHERE event_id = ANY(%s)", (ids,))
            known = {row[0] for row in found}
        numbers = [number for number, event in enumerate(events) if event.id not in known]
        sent = send([events[number] for number in numbers])
        sent.duplicate += len(events) - len(numbers)
        sent.refused = {numbers[number]: why for number, why in sent.refused.items()}
        return sent

    return send_unknown


def _pass(
    path: Path,
    rejected_path: Path,
    wanted: Sequence[str | None],
    make: Make,
    send: Callable[[Sequence[Any]], Sent],
    state: Progress,
    save: Callable[[], None],
) -> None:
    """One file. While a batch is on its way, the next is read; nothing is remembered before its answer."""
    if state.done:
        return
    start_s, first = time.monotonic(), state.place.row
    with (
        Rejected(rejected_path, state.rejected_bytes) as rejected,
        progress_bar(TaskProgressColumn(), TextColumn("{task.fields[rate]}")) as bar,
    ):
        task = bar.add_task(path.name, total=path.stat().st_size, rate="")
        saved = state.place.row
        for batch, sent in _sent(_batches(path, wanted, make, state.place), send):
            _settle(batch, sent, state, rejected)
            rate = (state.place.row - first) / max(time.monotonic() - start_s, 1e-3)
            _show(bar, task, path, state, rate)
            if state.place.row >= saved + CHECKPOINT_ROWS:
                state.rejected_bytes = rejected.sync()
                save()
                saved = state.place.row
        state.rejected_bytes = rejected.sync()
        state.done = True
        save()


def _sent(batches: Iterator[Batch], send: Callable[[Sequence[Any]], Sent]) -> Iterator[tuple[Batch, Sent]]:
    """Each batch with its answer, in order, one on its way at a time."""
    before: tuple[Batch, Future[Sent]] | None = None
    for batch in batches:
        if before:
            yield before[0], before[1].result()
        before = batch, _start(send, batch.messages)
    if before:
        yield before[0], before[1].result()


def _start(send: Callable[[Sequence[Any]], Sent], messages: Sequence[Any]) -> Future[Sent]:
    """Sends beside the reading. Not with an executor: the end of the process would wait for its threads, and they may wait long."""
    future: Future[Sent] = Future()

    def work() -> None:
        try:
            future.set_result(send(messages))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _batches(path: Path, wanted: Sequence[str | None], make: Make, start: Place) -> Iterator[Batch]:
    batch = Batch()
    for number, row, fault, end in open_table(path, [name for name in wanted if name], start):
        batch.end = end
        try:
            if fault is not None:
                raise RowError(fault)
            message = make(number, row)
            batch.messages.append(message)
            batch.rows.append((number, row))
            batch.byte_count += message.ByteSize()
        except RowError as found:
            batch.bad.append((number, found.reason, str(found), row))
        if batch.is_full():
            yield batch
            batch = Batch()
    if batch.messages or batch.bad:
        yield batch


def _settle(batch: Batch, sent: Sent, state: Progress, rejected: Rejected) -> None:
    """Counts what became of a batch, and sets aside what was not taken, in the order of the file."""
    refused = [(*batch.rows[n], *why) for n, why in sent.refused.items()]
    lines = [(number, reason, message, row) for number, row, reason, message in refused] + batch.bad
    for line in sorted(lines, key=lambda each: each[0]):
        rejected.add(*line)
        state.count(line[1])
    for number, (_, message) in sent.refused.items():
        if len(state.samples) < SAMPLE_COUNT_MAX:
            state.samples.append({"event_id": batch.messages[number].id, "message": message})
    state.created += sent.created
    state.updated += sent.updated
    state.accepted += sent.accepted
    state.duplicate += sent.duplicate
    state.refused += len(sent.refused)
    state.set_aside += len(batch.bad)
    state.place = batch.end


def _show(bar: Bar, task: Any, path: Path, state: Progress, rate: float) -> None:
    text = f"{state.place.row:,} rows, {rate:,.0f} a second"
    done = {"completed": state.place.byte} if state.place.byte else {"total": None}
    bar.update(task, rate=text, **done)  # Parquet tells no bytes: then the bar only moves
