"""The replicas of one stage: where they are, how full they are, who is leaving."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Protocol

import grpc

from talkingface.common.errors import ServiceError
from talkingface.common.server import CLIENT_OPTIONS
from talkingface.v1 import stage_pb2 as stage
from talkingface.v1 import stage_pb2_grpc as stage_grpc

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
_POLL_TIMEOUT = 1.0
_RESOLVE_POLLS = 10  # polls from one look-up of the names to the next
_DNS = "dns:///"


class Movable(Protocol):
    """A stream that can go on elsewhere."""

    def move(self) -> None:
        """Begin to."""


class Replica:
    """One process of a stage."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self.status: stage.GetStatusResponse | None = None  # None: not heard of
        self.streams: set[Movable] = set()
        self._opened = 0  # streams since the status
        self._stub = stage_grpc.StageStatusServiceStub(self.channel)

    @property
    def serving(self) -> bool:
        """Whether it takes streams, as far as is known."""
        return self.status is not None and self.status.serving

    @property
    def free(self) -> int:
        """Slots that are free, as far as is known."""
        if self.status is None:
            return 0
        return self.status.slots_total - self.status.slots_in_use - self._opened

    def opened(self) -> None:
        """A stream was opened here."""
        self._opened += 1

    def lost(self) -> None:
        """It did not answer: not to be used until it is heard of again."""
        self.status = None

    async def poll(self) -> None:
        """Ask how it is; streams on one that leaves are told to move."""
        was_leaving = self.status is not None and self.status.draining
        try:
            self.status = await self._stub.GetStatus(
                stage.GetStatusRequest(), timeout=_POLL_TIMEOUT
            )
            self._opened = 0
        except grpc.aio.AioRpcError:
            self.lost()
            return
        if self.status.draining and not was_leaving:
            for stream in list(self.streams):
                stream.move()


class Replicas:
    """All replicas of a stage that a target names."""

    def __init__(self, name: str, target: str) -> None:
        """
        :param target: addresses "host:port" with commas between them, or "dns:///name:port", which
            stands for all addresses of the name.
        """
        self.name = name
        self._target = target
        self._replicas: dict[str, Replica] = {}
        self._polling: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    @property
    def info(self) -> stage.StageInfo | None:
        """What the stage says of itself; None while no replica is heard of."""
        for replica in self._replicas.values():
            if replica.status is not None:
                return replica.status.info
        return None

    async def close(self) -> None:
        """End all connections."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])
        for replica in self._replicas.values():
            await replica.channel.close()

    async def candidates(self) -> list[Replica]:
        """The replicas to try, the emptiest first.

        :raises ServiceError: STAGE_UNAVAILABLE where none is serving.
        """
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        await self._heard.wait()
        serving = [replica for replica in self._replicas.values() if replica.serving]
        if not serving:  # it may have come back this moment
            await self._ask_all()
            serving = [replica for replica in self._replicas.values() if replica.serving]
        if not serving:
            raise ServiceError(
                "STAGE_UNAVAILABLE",
                f"no replica of {self.name} is serving",
                metadata={"stage": self.name},
            )
        return sorted(serving, key=lambda replica: -replica.free)

    async def _poll(self) -> None:
        polls = 0
        while True:
            if polls % _RESOLVE_POLLS == 0:
                await self._resolve()
            polls += 1
            await self._ask_all()
            self._heard.set()
            await asyncio.sleep(POLL_SECONDS)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(replica.poll() for replica in self._replicas.values()))

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
                await self._replicas.pop(address).channel.close()
