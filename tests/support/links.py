"""Network links between processes of one machine that can be cut, made lossy or slowed down.

They need no privilege and no tool of the system, so that they work wherever the tests do.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any

SEGMENT = 1448  # bytes of a TCP segment on Ethernet
RETRANSMISSION_SECONDS = 0.2  # of Linux: the shortest timeout, which doubles with each further loss
MAX_LOSSES = 6  # of one segment: 12.6 s
IN_FLIGHT = 32  # reads of up to 64 KiB that a direction holds before it stops reading
TIMEOUT = 10.0  # seconds for a change of the link to take effect


class Link:
    """A TCP proxy in front of a service, with the faults of a network as applications see them.

    An application never sees a lost packet: TCP sends it again, and what comes is late, in order.
    A cut link closes no connection and refuses none: bytes and connection attempts are accepted by
    the local kernel and remain without an answer until the link is restored.
    """

    def __init__(self, server_port: Callable[[], int], seed: int = 0) -> None:
        """
        :param server_port: gives the port of the service on 127.0.0.1, at each connection.
        :param seed: of the losses.
        """
        self._server_port = server_port
        self._rng = random.Random(seed)
        self._loss = 0.0
        self._bytes_per_second = math.inf
        self._passable = asyncio.Event()
        self._passable.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Let nothing through, in either direction, and report nothing to either end."""

        async def cut() -> None:
            self._passable.clear()

        self._run(cut())

    def restore(self) -> None:
        """Let everything through again, at once and without losses."""

        async def restore() -> None:
            self._loss, self._bytes_per_second = 0.0, math.inf
            self._passable.set()

        self._run(restore())

    def lose(self, part: float) -> None:
        """Lose this part of the TCP segments, in each direction."""
        self._loss = part

    def limit(self, bits_per_second: float) -> None:
        """Let no more than this through, in each direction of each connection."""
        self._bytes_per_second = bits_per_second / 8

    def close(self) -> None:
        """Close the link and all its connections."""

        async def close() -> None:
            self._server.close()
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the link's thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, in both directions, until either end closes it."""
        await self._passable.wait()
        try:
            there = await asyncio.open_connection("127.0.0.1", self._server_port())
        except OSError:
            writer.transport.abort()
            return
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))
        writer.close()
        there[1].close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction of a connection; its end is passed on like its bytes."""
        in_flight = asyncio.Queue[tuple[float, bytes]](IN_FLIGHT)
        loop = asyncio.get_running_loop()

        async def receive() -> None:
            free = 0.0  # when the link has sent what came before
            while True:
                try:
                    data = await reader.read(1 << 16)
                except ConnectionError:
                    data = b""
                free = max(free, loop.time()) + len(data) / self._bytes_per_second
                await in_flight.put((free + self._retransmission_seconds(len(data)), data))
                if not data:
                    return

        receiver = asyncio.create_task(receive())
        try:
            while True:
                due, data = await in_flight.get()
                await asyncio.sleep(due - loop.time())
                await self._passable.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        finally:
            receiver.cancel()
            writer.close()

    def _retransmission_seconds(self, size: int) -> float:
        """How late so many bytes come because segments of them are lost, in seconds."""
        worst = 0
        for _ in range(math.ceil(size / SEGMENT)):
            losses = 0
            while losses < MAX_LOSSES and self._rng.random() < self._loss:
                losses += 1
            worst = max(worst, losses)
        return RETRANSMISSION_SECONDS * (2.0**worst - 1.0)
