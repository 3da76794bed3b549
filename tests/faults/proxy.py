"""A small proxy in front of each broker, under the port that the broker advertises: it delays, swallows, or cuts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress

CHUNK = 64 * 1024


class Proxy:
    """Forwards 127.0.0.1:`outer` to 127.0.0.1:`inner` for each pair. Use as a context manager.

    `delay(seconds)` holds every piece of data so long in both directions, `hang()` swallows nothing and forwards
    nothing, `cut()` closes every connection and refuses new ones; `heal()` ends them all.
    """

    def __init__(self, ports: Mapping[int, int]) -> None:
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._delay = 0.0
        self._cut = False

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._hang_up()
            for server in self._servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Every piece of data takes so much longer, in each direction."""
        self._loop.call_soon_threadsafe(setattr, self, "_delay", seconds)

    def hang(self) -> None:
        """Connections stay open and nothing comes through: what a network partition looks like."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def cut(self) -> None:
        """Connections end, and new ones are closed at once."""

        def cut() -> None:
            self._cut = True
            self._hang_up()

        self._loop.call_soon_threadsafe(cut)

    def heal(self) -> None:
        """The network is as it should be."""

        def heal() -> None:
            self._cut, self._delay = False, 0.0
            self._open.set()

        self._loop.call_soon_threadsafe(heal)

    def _hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        for outer, inner in self._ports.items():

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner: int = inner) -> None:
                await self._connect(reader, writer, inner)

            self._servers.append(await asyncio.start_server(serve, "127.0.0.1", outer, limit=CHUNK))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner: int) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", inner, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            for end in (writer, back):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
