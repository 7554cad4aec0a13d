"""A SeaweedFS for tests: a real S3-compatible server, on free ports, with its data in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

BUCKET = "lake"
START_S_MAX = 60.0
STOP_S_MAX = 10.0
POLL_S = 0.1
KEY, SECRET = "reco-test", "reco-test-secret"
SERVERS = ("master", "volume", "filer", "s3", "admin")


def installed() -> Path | None:
    """The server's program; None where the extra `s3` is not installed (`make unit` does it)."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    return Path(found) if found else None


class Seaweed:
    """One server, of this machine alone."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._process: subprocess.Popen[bytes] | None = None
        ports = free_ports(2 * len(SERVERS))  # once: a server that comes back is found where it was
        self._ports = [f"-{name}.port={ports.pop()}" for name in SERVERS]
        self._ports += [f"-{name}.port.grpc={ports.pop()}" for name in SERVERS]
        s3 = next(option for option in self._ports if option.startswith("-s3.port="))
        self.endpoint = f"http://127.0.0.1:{s3.partition('=')[2]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of it finds in its environment, by AWS's usual names."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Returns when the bucket is there."""
        quiet = (
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        )
        command = [self._program, "mini", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *self._ports, *quiet, f"-bucket={BUCKET}"]  # fmt: skip
        with (self._folder / "weed.log").open("ab") as log:
            environment = {**os.environ, **self.environment, "HOME": str(self._folder)}
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def kill(self) -> None:
        """Ends it on the spot; `start` brings it back with its data."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Ends it and all that it has started."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _wait(self) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + START_S_MAX
        while not self._has_bucket():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError((self._folder / "weed.log").read_text()[-2_000:])
            time.sleep(POLL_S)

    def _has_bucket(self) -> bool:
        from obstore import list as list_objects
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        try:
            urlopen(self.endpoint, timeout=1).close()
        except HTTPError:
            pass  # it wants a signature: it is there
        except (URLError, OSError):
            return False
        names = {key.lower(): value for key, value in self.environment.items()}
        names["aws_endpoint"] = names.pop("aws_endpoint_url")
        store = S3Store(
            BUCKET, config=names, client_options={"allow_http": True}, retry_config={"max_retries": 0}
        )  # type: ignore[arg-type]  # by AWS's names
        try:
            list_objects(store).collect()
        except BaseError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody has just now, all different."""
    with ExitStack() as sockets:
        made = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in made]
