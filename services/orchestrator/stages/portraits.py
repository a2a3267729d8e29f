"""Keeps the portraits that clients have uploaded, so that any renderer can prepare them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

from talkingface.contract.errors import ServiceError
from talkingface.contract.portrait import MAX_BYTES, handle_of
from talkingface.orchestrator.stages.call import StageCall
from talkingface.orchestrator.stages.methods import RenderMethod
from talkingface.orchestrator.stages.pool import Stages
from talkingface.orchestrator.stages.replicas import Replica
from talkingface.v1 import renderer_pb2 as renderer

log = logging.getLogger(__name__)

_STANDBY_SECONDS = 0.5  # between checks whether a standby renderer has the portrait
_MAX_PAUSE_SECONDS = 30.0  # between them while its preparation fails
_STANDBY_PREPARATIONS = 2  # at a time


class UploadStore:
    """Keeps files of portraits under the hash of their bytes, and deletes the least recently used.

    Several orchestrators may share the folder. Methods read and write files: call them in threads.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """
        :param max_bytes: total size of the files beyond which some are deleted.
        """
        self._folder = folder
        self._max_bytes = max_bytes

    def put(self, image: bytes, portrait: renderer.Portrait) -> None:
        """Keep a portrait that the renderer has accepted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(portrait.handle)
        for target, content in (
            (path.with_suffix(".portrait"), portrait.SerializeToString()),
            (path, image),  # last, because it makes the entry complete
        ):
            unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
            unfinished.write_bytes(content)
            unfinished.replace(target)
        _touch(path)
        self._delete_surplus()

    def find(self, handle: str) -> renderer.Portrait | None:
        """Return the description of a portrait, or None if unknown; it counts as used now."""
        path = self._path(handle)
        try:
            portrait = renderer.Portrait.FromString(path.with_suffix(".portrait").read_bytes())
            _touch(path)
        except FileNotFoundError:
            return None
        return portrait

    def image(self, handle: str) -> bytes | None:
        """Return the file of a portrait, or None if it is not kept."""
        try:
            return self._path(handle).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, handle: str) -> Path:
        return self._folder / f"{handle.removeprefix('sha256:')}.image"

    def _delete_surplus(self) -> None:
        entries = []
        for path in self._folder.glob("*.image"):
            try:
                entries.append((path.stat(), path))
            except FileNotFoundError:  # deleted by another orchestrator
                continue
        entries.sort(key=lambda entry: entry[0].st_mtime_ns, reverse=True)
        total = 0
        for i, (status, path) in enumerate(entries):
            total += status.st_size
            if total > self._max_bytes and i:  # the newest is always kept
                path.unlink(missing_ok=True)
                path.with_suffix(".portrait").unlink(missing_ok=True)


def _touch(path: Path) -> None:
    """Set the time of last use of a file, with a higher resolution than the kernel would."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


RendererCall: TypeAlias = StageCall[
    renderer.RenderConfig, renderer.RenderRequest, renderer.RenderResponse
]


class Portraits:
    """Checks and stores clients' portraits, and sends them to the renderers that need them."""

    def __init__(self, stages: Stages, store: UploadStore) -> None:
        self._stages = stages
        self._store = store
        self._standby_preparations = asyncio.Semaphore(_STANDBY_PREPARATIONS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, image: bytes) -> renderer.Portrait:
        """Check and store a portrait, unless it is stored already.

        :param image: file of the portrait.
        :raises ServiceError: IMAGE_TOO_LARGE, or the renderer's refusal.
        """
        if len(image) > MAX_BYTES:
            raise ServiceError("IMAGE_TOO_LARGE", f"the file has more than {MAX_BYTES} bytes")
        known = await asyncio.to_thread(self._store.find, handle_of(image))
        if known is not None:
            return known
        portrait = await self._stages.prepare_portrait(image)
        await asyncio.to_thread(self._store.put, image, portrait)
        return portrait

    async def find(self, handle: str) -> renderer.Portrait:
        """Return the description of a stored portrait.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        portrait = await asyncio.to_thread(self._store.find, handle)
        if portrait is None:
            raise ServiceError(
                "PORTRAIT_NOT_FOUND", f"no portrait {handle}: upload it and call again"
            )
        return portrait

    async def open_renderer(
        self, method: RenderMethod, config: renderer.RenderConfig, *, live: bool = False
    ) -> RendererCall:
        """Open a call of a renderer that has the portrait; one that lacks it prepares it.

        :param live: whether to keep the portrait prepared on a standby renderer during the call.
        :raises ServiceError: as `Stages.open`.
        """
        handle = config.portrait_handle
        prepare = partial(self._prepare, handle)
        call = await self._stages.open(method, config, prepare, live=live)
        if live:
            ended = asyncio.Event()
            call.on_end(ended.set)
            task = asyncio.create_task(self._keep_standby(handle, call.replica, ended))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return call

    async def _prepare(self, handle: str, replica: Replica) -> None:
        """Let a renderer prepare a stored portrait.

        :raises ServiceError: PORTRAIT_NOT_FOUND, or the renderer's refusal.
        """
        image = await asyncio.to_thread(self._store.image, handle)
        if image is None:
            raise ServiceError("PORTRAIT_NOT_FOUND", "the portrait is no longer stored")
        await self._stages.prepare_portrait_at(replica, image)

    async def _keep_standby(self, handle: str, current: Replica, ended: asyncio.Event) -> None:
        """Keep a portrait prepared on a standby renderer, also as replicas start and stop.

        A renderer that continues a live session has no time to prepare the portrait.

        :param current: renderer of the session.
        :param ended: set when the session's call has ended; a preparation that has started is
            finished, for the call that follows.
        """
        pause = _STANDBY_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await ended.wait()
                return
            other = self._stages.other_than("renderer", current, handle)
            if other is None or other.recently_silent or handle in other.portraits:
                continue
            try:
                async with self._standby_preparations:
                    await self._prepare(handle, other)
                log.info("event=standby_prepared replica=%s", other.address)
                pause = _STANDBY_SECONDS
            except (ServiceError, OSError) as error:
                log.warning("event=standby_failed %s", error)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
