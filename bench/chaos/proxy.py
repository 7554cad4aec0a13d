"""A proxy that cuts, delays, truncates and stalls: between a caller and whoever he calls, over TCP."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK_BYTES = 64 * 1024
CONNECT_WAIT_S_MAX = 1.0  # whoever is behind it is on this machine


class Proxy:
    """Passes bytes between who connects to `port` and `target` (a path of a Unix socket, or host:port). For one event loop."""

    def __init__(self, port: int, target: str) -> None:
        self.port = port
        self._target = target
        self._pairs: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()  # set: bytes pass
        self._open.set()
        self._delay_s = 0.0
        self._truncates = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens on 127.0.0.1."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Closes everything."""
        if self._server:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self) -> None:
        """Closes every connection there is."""
        for pair in self._pairs:
            pair.cancel()

    def delay(self, seconds: float) -> None:
        """From now on whatever passes comes so much later."""
        self._delay_s = seconds

    def truncate(self) -> None:
        """Of the next thing that passes only half does, and its connection ends."""
        self._truncates = True

    def stall(self, stalled: bool) -> None:
        """Whether nothing passes."""
        if stalled:
            self._open.clear()
        else:
            self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.CancelledError, TimeoutError, EOFError):
            pass  # what it is for
        finally:
            self._pairs.discard(task)
            _abort(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(CONNECT_WAIT_S_MAX):
            their_reader, their_writer = await self._connect()
        ways = [
            asyncio.create_task(self._copy(reader, their_writer)),
            asyncio.create_task(self._copy(their_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            _abort(their_writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.startswith("/"):
            return await asyncio.open_unix_connection(self._target)
        host, _, port = self._target.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if self._truncates:
                self._truncates = False
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        writer.transport.abort()
