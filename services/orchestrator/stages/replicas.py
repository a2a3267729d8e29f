"""The replicas of one stage: where they are, how full they are, who is leaving.

Each is asked twice a second how it is, on its own, so that one that does not answer holds up
nobody. What a stream finds out beside that is told by `Replica.mark_unhealthy`.
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
_POLL_TIMEOUT = 0.5
_RESOLVE_SECONDS = 2.0  # from one look-up of the names to the next
_START_SECONDS = 2.0  # that the first look-up and poll may hold up the start
# A replica that fell silent is the last resort for so long, whatever it says of itself: its Triton
# may be stuck, which it notices within 3 s.
_SILENT_SECONDS = 5.0
_MAX_PORTRAITS = 1000  # remembered of a replica
_DNS = "dns:///"


class Migratable(Protocol):
    """A stream that can go on elsewhere."""

    def migrate(self) -> None:
        """Begin to."""


class Replica:
    """One process of a stage."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self.status: stage.GetStatusResponse | None = None  # None: not heard of
        self.portraits: set[str] = set()  # handles of those that it is known to have
        self.streams: set[Migratable] = set()
        self.full = False  # as it last said, and no stream of ours has ended since
        self._ended = 0
        self._opening = 0  # streams
        self._opened = 0  # ... since the status
        self._silent_until = 0.0
        self._stub = stage_grpc.StageStatusServiceStub(self.channel)

    @property
    def serving(self) -> bool:
        """Whether it takes streams, as far as is known."""
        return self.status is not None and self.status.serving

    @property
    def draining(self) -> bool:
        """Whether it drains, as far as is known."""
        return self.status is not None and self.status.draining

    @property
    def recently_silent(self) -> bool:
        """Whether it fell silent not long ago."""
        return time.monotonic() < self._silent_until

    @property
    def free(self) -> int:
        """Slots that are free, as far as is known."""
        if self.status is None:
            return 0
        taken = self.status.slots_in_use + self._opened + self._opening
        return self.status.slots_total - taken

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around the opening of a stream here, which counts from its beginning on, so that streams
        that are opened side by side are spread."""
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
        """A stream that was opened here has ended."""
        self._ended += 1
        self.full = False

    def mark_unhealthy(self, *, silent: bool = False) -> None:
        """It broke off or fell silent: not to be used until it is heard of again."""
        self.status = None
        if silent:
            self._silent_until = time.monotonic() + _SILENT_SECONDS

    def add_portrait(self, portrait: str) -> None:
        """It has a portrait, as it has just shown."""
        if len(self.portraits) >= _MAX_PORTRAITS:
            self.portraits.clear()
        self.portraits.add(portrait)

    async def poll(self) -> None:
        """Ask how it is; streams on one that leaves are told to move, as long as they have not."""
        counted, ended = self._opened, self._ended
        try:
            self.status = await self._stub.GetStatus(
                stage.GetStatusRequest(), timeout=_POLL_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            self.mark_unhealthy()
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                self.portraits.clear()  # another process may come back, without them
            return
        self._opened -= counted
        taken = self.status.slots_in_use >= self.status.slots_total
        self.full = taken and ended == self._ended
        if self.draining:
            for stream in list(self.streams):
                stream.migrate()


class Replicas:
    """All replicas of a stage that a target names."""

    def __init__(self, name: str, target: str, metrics: Metrics) -> None:
        """
        :param target: addresses "host:port" with commas between them, or "dns:///name:port", which
            stands for all addresses of the name.
        """
        self.name = name
        self._target = target
        self._metrics = metrics
        self._replicas: dict[str, Replica] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    @property
    def info(self) -> stage.StageInfo | None:
        """What the stage says of itself; None while no replica is heard of."""
        for replica in self._replicas.values():
            if replica.status is not None:
                return replica.status.info
        return None

    @property
    def slots(self) -> int:
        """Streams that the replicas take together, as far as is known."""
        return sum(r.status.slots_total for r in self._serving() if r.status is not None)

    @property
    def full(self) -> bool:
        """Whether all replicas that serve are full. Where not, a stream may be refused all the
        same."""
        serving = self._serving()
        return bool(serving) and all(replica.full for replica in serving)

    async def start(self) -> None:
        """Begin to ask; returns when all have been asked, or do not answer."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        hearing = asyncio.create_task(self._heard.wait())
        await asyncio.wait([hearing], timeout=_START_SECONDS)
        hearing.cancel()

    async def close(self) -> None:
        """End all connections."""
        tasks = [*self._polls.values()]
        if self._following is not None:
            tasks.append(self._following)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for replica in self._replicas.values():
            await replica.channel.close()

    async def candidates(self) -> list[Replica]:
        """The replicas to try, the emptiest first.

        :raises ServiceError: STAGE_UNAVAILABLE where none is serving.
        """
        if not self._heard.is_set():
            await self.start()
        if not self._serving():  # it may have come back this moment
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
        # Among equals by lot: other orchestrators choose as well.
        return sorted(serving, key=lambda r: (r.recently_silent, -r.free, random.random()))

    def other_than(self, replica: Replica, portrait: str = "") -> Replica | None:
        """Where a stream of this replica could go on: with room, if possible with the portrait that
        it needs, and rather not one that fell silent itself; of these the emptiest."""
        others = [r for r in self._serving() if r is not replica and r.free > 0]
        return max(
            others,
            key=lambda r: (portrait in r.portraits, not r.recently_silent, r.free),
            default=None,
        )

    def _serving(self) -> list[Replica]:
        return [replica for replica in self._replicas.values() if replica.serving]

    async def _follow(self) -> None:
        while True:
            await self._resolve()
            if not self._heard.is_set():
                await asyncio.gather(*(replica.poll() for replica in self._replicas.values()))
                self._heard.set()
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
        """Look the addresses up; those that are gone are kept while they hold streams."""
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
                return  # what was known may still hold
            for family, *_, place in found:
                host_ip = str(place[0])
                ip = f"[{host_ip}]" if family == socket.AF_INET6 else host_ip
                addresses.add(f"{ip}:{int(place[1])}")
        for address in addresses - self._replicas.keys():
            self._replicas[address] = Replica(address)
        for address in self._replicas.keys() - addresses:
            if not self._replicas[address].streams:
                if (poll := self._polls.pop(address, None)) is not None:
                    poll.cancel()
                await self._replicas.pop(address).channel.close()
