"""The portraits that clients have uploaded, kept so that any renderer can be given them."""

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

_STAND_BY_SECONDS = 0.5  # from one look at who could take over to the next
_MAX_PAUSE_SECONDS = 30.0  # where nobody can
_STANDING_BY = 2  # portraits that are brought for that at a time


class UploadStore:
    """Files of portraits under the hash of their bytes; those unused for longest make room.

    Several orchestrators may share the folder. Methods read and write files: call them in threads.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def put(self, image: bytes, portrait: renderer.Portrait) -> None:
        """Keep a portrait that the renderer has accepted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(portrait.handle)
        for target, content in (
            (path.with_suffix(".portrait"), portrait.SerializeToString()),
            (path, image),  # last: it makes the entry complete
        ):
            partial = target.with_name(f"{target.name}.{os.getpid()}.part")
            partial.write_bytes(content)
            partial.replace(target)
        _touch(path)
        self._make_room()

    def find(self, handle: str) -> renderer.Portrait | None:
        """What is known of a portrait, or None. It counts as used now."""
        path = self._path(handle)
        try:
            portrait = renderer.Portrait.FromString(path.with_suffix(".portrait").read_bytes())
            _touch(path)
        except FileNotFoundError:
            return None
        return portrait

    def image(self, handle: str) -> bytes | None:
        """The file of a portrait, or None."""
        try:
            return self._path(handle).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, handle: str) -> Path:
        return self._folder / f"{handle.removeprefix('sha256:')}.image"

    def _make_room(self) -> None:
        entries = []
        for path in self._folder.glob("*.image"):
            try:
                entries.append((path.stat(), path))
            except FileNotFoundError:  # another orchestrator was faster
                continue
        entries.sort(key=lambda entry: entry[0].st_mtime_ns, reverse=True)
        total = 0
        for i, (status, path) in enumerate(entries):
            total += status.st_size
            if total > self._max_bytes and i:  # the newest always stays
                path.unlink(missing_ok=True)
                path.with_suffix(".portrait").unlink(missing_ok=True)


def _touch(path: Path) -> None:
    """Note that a file is used now, finer than the kernel's own clock of files."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


RendererCall: TypeAlias = StageCall[
    renderer.RenderConfig, renderer.RenderRequest, renderer.RenderResponse
]


class Portraits:
    """Portraits of clients: checked, stored, and brought to the renderer that needs them."""

    def __init__(self, stages: Stages, store: UploadStore) -> None:
        self._stages = stages
        self._store = store
        self._standing_by = asyncio.Semaphore(_STANDING_BY)
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, image: bytes) -> renderer.Portrait:
        """Check and keep a portrait; free if it is kept already.

        :raises ServiceError: IMAGE_TOO_LARGE, or what the renderer refuses with.
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
        """
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

        :param live: while the call lasts, one more renderer is kept ready to take it over.
        :raises ServiceError: as `Stages.open`.
        """
        handle = config.portrait_handle
        prepare = partial(self._bring, handle)
        call = await self._stages.open(method, config, prepare, live=live)
        if live:
            ended = asyncio.Event()
            call.on_end(ended.set)
            task = asyncio.create_task(self._stand_by(handle, call.replica, ended))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return call

    async def _bring(self, handle: str, replica: Replica) -> None:
        """
        :raises ServiceError: PORTRAIT_NOT_FOUND, or what the renderer refuses with.
        """
        image = await asyncio.to_thread(self._store.image, handle)
        if image is None:
            raise ServiceError("PORTRAIT_NOT_FOUND", "the portrait is no longer kept")
        await self._stages.prepare_portrait_at(replica, image)

    async def _stand_by(self, handle: str, holder: Replica, ended: asyncio.Event) -> None:
        """See that a renderer other than the holder has the portrait, replicas coming and going:
        whoever takes a live session over has no time to prepare it.

        :param ended: ends it; a preparation that has begun goes on, for the call that comes next.
        """
        pause = _STAND_BY_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await ended.wait()
                return
            other = self._stages.other_than("renderer", holder, handle)
            if other is None or other.recently_silent or handle in other.portraits:
                continue
            try:
                async with self._standing_by:
                    await self._bring(handle, other)
                log.info("event=portrait_stands_by replica=%s", other.address)
                pause = _STAND_BY_SECONDS
            except (ServiceError, OSError) as error:
                log.warning("event=portrait_does_not_stand_by %s", error)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
