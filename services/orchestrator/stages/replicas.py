"""The replicas of one stage: their addresses, free slots, and whether they are draining.

The status of each is polled twice a second, in a task of its own, so that one that does not respond
delays no other. A stream that finds out more calls `Replica.mark_unhealthy`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc

from talkingface.contract.channel import CLIENT_OPTIONS
from talkingface.contract.errors import ServiceError
from talkingface.serving.metrics import Metrics
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import stage_pb2_grpc as stage_grpc

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
_POLL_TIMEOUT = 0.5  # seconds
_MEASURE_TIMEOUT = 30.0  # seconds, of which a measurement takes one to three
_RESOLVE_SECONDS = 2.0  # between look-ups of the names
_START_SECONDS = 2.0  # by which the first look-up and poll may delay the start
# Time for which a replica that did not respond is the last choice, whatever its status: its Triton
# may hang, which it notices within 3 s.
_SILENT_SECONDS = 5.0
_MAX_PORTRAITS = 1000  # remembered for a replica
_DNS = "dns:///"


class Migratable(Protocol):
    """A stream that can continue at another replica."""

    def migrate(self) -> None:
        """Start to move to another replica."""


class Replica:
    """One process of a stage."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self.status: stage.GetStatusResponse | None = None  # None: it does not respond
        self.portraits: set[str] = (
            set()
        )  # handles of those that it has prepared, as far as is known
        self.streams: set[Migratable] = set()
        self.full = False  # by its last status or refusal; no stream of ours has ended since
        self._ended = 0  # streams
        self._opening = 0  # streams
        self._opened = 0  # streams, since the last status
        self._silent_until = 0.0
        self._stub = stage_grpc.StageStatusServiceStub(self.channel)

    @property
    def serving(self) -> bool:
        """Whether it accepts streams, as far as is known."""
        return self.status is not None and self.status.serving

    @property
    def draining(self) -> bool:
        """Whether it is draining, as far as is known."""
        return self.status is not None and self.status.draining

    @property
    def recently_silent(self) -> bool:
        """Whether it failed to respond not long ago."""
        return time.monotonic() < self._silent_until

    @property
    def free(self) -> int:
        """Number of free slots, as far as is known."""
        if self.status is None:
            return 0
        in_use = self.status.slots_in_use + self._opened + self._opening
        return self.status.slots_total - in_use

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Return a context in which a stream is opened here.

        The stream counts from its start, so that streams opened concurrently are spread.
        """
        ended = self._ended
        self._opening += 1
        try:
            yield
            self._opened += 1
        except ServiceError as error:
            self.full = error.reason == "NO_CAPACITY" and ended == self._ended
            raise
        finally:
            self._opening -= 1

    def ended(self) -> None:
        """Note that a stream that was opened here has ended."""
        self._ended += 1
        self.full = False

    def mark_unhealthy(self, *, silent: bool = False) -> None:
        """Mark it unhealthy until the next successful poll.

        :param silent: whether it did not respond, instead of breaking the connection.
        """
        self.status = None
        if silent:
            self._silent_until = time.monotonic() + _SILENT_SECONDS

    def add_portrait(self, portrait: str) -> None:
        """Note that it has prepared a portrait."""
        if len(self.portraits) >= _MAX_PORTRAITS:
            self.portraits.clear()
        self.portraits.add(portrait)

    async def measure(self) -> float:
        """Return the streams that it carries with the machine to itself.

        :raises ServiceError: STAGE_UNAVAILABLE, or another error of the stage.
        """
        request = stage.MeasureCapacityRequest()
        try:
            answer = await self._stub.MeasureCapacity(request, timeout=_MEASURE_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise ServiceError.from_rpc(error) from None
        streams: float = answer.streams
        return streams

    async def poll(self) -> None:
        """Update its status; while it is draining, let the streams on it migrate."""
        counted, ended = self._opened, self._ended
        try:
            self.status = await self._stub.GetStatus(
                stage.GetStatusRequest(), timeout=_POLL_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            self.mark_unhealthy()
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                self.portraits.clear()  # a restarted process has none
            return
        self._opened -= counted
        no_free_slot = self.status.slots_in_use >= self.status.slots_total
        self.full = no_free_slot and ended == self._ended
        if self.draining:
            for stream in list(self.streams):
                stream.migrate()


class Replicas:
    """The replicas of a stage at the addresses of a target."""

    def __init__(self, name: str, target: str, metrics: Metrics) -> None:
        """
        :param name: name of the stage.
        :param target: comma-separated addresses "host:port", or "dns:///name:port", which stands
            for all addresses of the name.
        """
        self.name = name
        self._target = target
        self._metrics = metrics
        self._replicas: dict[str, Replica] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._polled = asyncio.Event()

    @property
    def info(self) -> stage.StageInfo | None:
        """Description of the stage; None while no replica responds."""
        for replica in self._replicas.values():
            if replica.status is not None:
                return replica.status.info
        return None

    @property
    def serving(self) -> bool:
        """Whether a replica accepts streams, as far as is known."""
        return bool(self._serving())

    @property
    def slots(self) -> int:
        """Number of streams that all replicas together accept, as far as is known."""
        return sum(r.status.slots_total for r in self._serving() if r.status is not None)

    @property
    def full(self) -> bool:
        """Whether all replicas that serve are full.

        If not, a stream may still be refused.
        """
        serving = self._serving()
        return bool(serving) and all(replica.full for replica in serving)

    async def start(self) -> None:
        """Start to poll; return when all replicas have been polled, or do not respond."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        first_poll = asyncio.create_task(self._polled.wait())
        await asyncio.wait([first_poll], timeout=_START_SECONDS)
        first_poll.cancel()

    async def close(self) -> None:
        """Close all connections."""
        tasks = [*self._polls.values()]
        if self._watching is not None:
            tasks.append(self._watching)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for replica in self._replicas.values():
            await replica.channel.close()

    async def measure(self) -> float:
        """Return the streams that the first replica carries with the machine to itself.

        Others on the same machine would share it, and add nothing.

        :raises ServiceError: STAGE_UNAVAILABLE if none is serving.
        """
        return await (await self.candidates())[0].measure()

    async def candidates(self) -> list[Replica]:
        """Return the replicas to try, by descending number of free slots.

        :raises ServiceError: STAGE_UNAVAILABLE if none is serving.
        """
        if not self._polled.is_set():
            await self.start()
        if not self._serving():  # one may just have restarted
            for answer in asyncio.as_completed([r.poll() for r in self._replicas.values()]):
                await answer
                if self._serving():
                    break
        serving = self._serving()
        if not serving:
            raise ServiceError(
                "STAGE_UNAVAILABLE",
                f"no replica of {self.name} is serving",
                metadata={"stage": self.name},
            )
        # In random order among equals, because other orchestrators choose at the same time.
        return sorted(serving, key=lambda r: (r.recently_silent, -r.free, random.random()))

    def other_than(self, replica: Replica, portrait: str = "") -> Replica | None:
        """Return the replica at which a stream of this one could best continue.

        It has a free slot; preferred are those that have the portrait, then those that have
        responded, then those with the most free slots.

        :param portrait: handle of the portrait that the stream needs; "" for none.
        :return: None if no other replica has a free slot.
        """
        others = [r for r in self._serving() if r is not replica and r.free > 0]
        return max(
            others,
            key=lambda r: (portrait in r.portraits, not r.recently_silent, r.free),
            default=None,
        )

    def _serving(self) -> list[Replica]:
        return [replica for replica in self._replicas.values() if replica.serving]

    async def _watch(self) -> None:
        while True:
            await self._resolve()
            if not self._polled.is_set():
                await asyncio.gather(*(replica.poll() for replica in self._replicas.values()))
                self._polled.set()
            for address, replica in self._replicas.items():
                if address not in self._polls:
                    self._polls[address] = asyncio.create_task(self._poll(replica))
            await asyncio.sleep(_RESOLVE_SECONDS)

    async def _poll(self, replica: Replica) -> None:
        while True:
            await replica.poll()
            self._metrics.set_replicas(self.name, len(self._serving()))
            await asyncio.sleep(POLL_SECONDS)

    async def _resolve(self) -> None:
        """Update the addresses; replicas that are gone from DNS stay while they have streams."""
        addresses = set()
        for part in self._target.removeprefix(_DNS).split(","):
            if not self._target.startswith(_DNS):
                addresses.add(part)
                continue
            host, _, port = part.rpartition(":")
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                log.warning("event=not_resolved stage=%s %s", self.name, error)
                return  # the known addresses may still be valid
            for family, *_, socket_address in found:
                host_ip = str(socket_address[0])
                ip = f"[{host_ip}]" if family == socket.AF_INET6 else host_ip
                addresses.add(f"{ip}:{int(socket_address[1])}")
        for address in addresses - self._replicas.keys():
            self._replicas[address] = Replica(address)
        for address in self._replicas.keys() - addresses:
            if not self._replicas[address].streams:
                if (poll := self._polls.pop(address, None)) is not None:
                    poll.cancel()
                await self._replicas.pop(address).channel.close()
