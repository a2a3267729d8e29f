"""The renderer's service: `python -m talkingface.renderer.server`."""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import grpc
import numpy as np

from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.messages import (
    check_size,
    check_start_frame,
    motion_array,
    motion_message,
)
from talkingface.contract.motion import ARKIT_INDEX, YAW, neutral
from talkingface.contract.portrait import MAX_BYTES, handle_of
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.video import (
    Background,
    RenderLevel,
    View,
    fill_in,
    frame_size,
    video_format,
)
from talkingface.renderer.h264 import H264Kind, choose
from talkingface.renderer.portrait_store import GREY_FACE, PreparedPortraitStore
from talkingface.renderer.session import MODEL_NAME, RenderSession
from talkingface.renderer.video_encoder import make_encoder
from talkingface.serving.calibration import Probe
from talkingface.serving.config import RendererConfig, StartError, load_or_exit
from talkingface.serving.inference_loop import StageHandler
from talkingface.serving.server import Context, set_up_logging
from talkingface.serving.stage import Stage
from talkingface.serving.stream_io import read
from talkingface.serving.triton.client import Arrays
from talkingface.v1 import media_pb2, renderer_pb2, renderer_pb2_grpc
from talkingface.v1.renderer_pb2 import RenderConfig, RenderRequest, RenderResponse
from talkingface.v1.stage_pb2 import StageInfo

log = logging.getLogger(__name__)

PREPARATION = "portrait_preparation"
_PREPARATION_SECONDS = 60.0  # deadline
_MAX_PREPARATIONS = 8  # running and waiting
_ENCODER_SECONDS = 20.0  # within which an encoder must have encoded a few frames


class RenderStream(StageHandler[RenderRequest, RenderResponse]):
    """One call of `Render`. A frame is encoded in a thread while the next one is synthesised."""

    model = MODEL_NAME
    in_flight = 2

    def __init__(self, stage: RendererStage, config: RenderConfig) -> None:
        if not config.portrait_handle:
            raise invalid_field("config.portrait_handle", "is missing")
        fill_in(config)
        self._stage = stage
        self._handle = config.portrait_handle
        stage.store.has(self._handle)  # marks it as used
        portrait = stage.store.portrait(self._handle)
        picture = video_format(config, portrait)
        self._encoder = make_encoder(
            config, picture, stage.h264, stage.host.metrics.encoder_fallback
        )
        size = frame_size(config, portrait)
        background = Background.from_message(config.background)
        self._view = View(config.framing, *size, self._encoder.planar, background)
        # Between two motion frames a frame waits for the second one.
        self.extra_look_ahead_ms = 0 if config.frame_rate == MOTION_FPS else 1000 // MOTION_FPS
        check_start_frame(config.start_frame)
        self._session = RenderSession(
            self._handle, self._view, config.frame_rate, config.first_frame, config.start_frame
        )
        self.per_second = config.frame_rate
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._stored = [self._handle]  # what it needs of the store
        if config.background.HasField("image"):
            self._stored.append(stage.store.save_background(config.background.image))
        stage.in_use.update(self._stored)

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"image": self._view.shape}

    def take(self, message: RenderRequest) -> None:
        rendered = message.HasField("motion")
        chunk = message.motion if rendered else message.dropped_motion
        if message.level > RenderLevel.HALF_RATE:
            raise invalid_field("level", f"{message.level} is not in [0, {RenderLevel.HALF_RATE}]")
        motion = motion_array(chunk, self._session.pushed)
        self._session.push(motion, message.level, rendered=rendered)

    def end(self) -> None:
        self._session.end()

    def next_request(self) -> Arrays | None:
        return self._session.next_request()

    async def accept(self, outputs: Arrays) -> Iterable[RenderResponse]:
        frame = self._session.accept(outputs)
        loop = asyncio.get_running_loop()
        metrics = self._stage.host.metrics
        if frame.image is None:
            encode = self._encoder.repeat
            metrics.count("repeated_frames")
        else:
            encode = partial(self._encoder.encode, frame.image)
        begin = time.perf_counter()
        with metrics.timed("encode"):
            data, keyframe = await loop.run_in_executor(self._thread, encode)
        encoded = media_pb2.EncodedFrame(index=frame.index, data=data, keyframe=keyframe)
        if frame.image is not None:
            seconds = self.inference_seconds + time.perf_counter() - begin
            encoded.load = seconds * self.per_second / self.in_flight
        metrics.count("frames")
        metrics.count("bytes", len(data))
        return (RenderResponse(frame=encoded),)

    def snapshot(self) -> bytes:
        return self._session.snapshot()

    def restore(self, state: bytes) -> None:
        self._session.restore(state)

    def close(self) -> None:
        self._thread.shutdown(wait=False)
        self._stage.in_use -= collections.Counter(self._stored)


class RendererStage(
    Stage[RenderConfig, RenderRequest, RenderResponse], renderer_pb2_grpc.RendererServiceServicer
):
    """The renderer: a portrait and motion in, encoded frames out."""

    name = "renderer"
    service = "talkingface.v1.RendererService"
    repository = Path(__file__).parent / "model_repository"
    models = (MODEL_NAME, "inpainter", PREPARATION)
    parts = ("renderer",)
    look_ahead_ms = 0
    config: RendererConfig

    def __init__(self, config: RendererConfig) -> None:
        super().__init__(config)
        self.store = PreparedPortraitStore(config.portrait_store, config.portrait_store_bytes)
        self.in_use = collections.Counter({GREY_FACE: 1})
        self.h264 = H264Kind.X264
        self._preparations: dict[str, asyncio.Task[None]] = {}
        self._awaited: collections.Counter[str] = collections.Counter()  # calls by handle
        self._preparing = asyncio.Lock()
        self._current = ""  # handle of the portrait that is being prepared, or was last
        cv2.setNumThreads(1)  # the streams share the cores already

    def add_to(self, server: grpc.aio.Server) -> None:
        renderer_pb2_grpc.add_RendererServiceServicer_to_server(self, server)

    def triton_environment(self) -> dict[str, str]:
        return {"TALKINGFACE_PORTRAIT_STORE": str(self.config.portrait_store.absolute())}

    async def start(self) -> None:
        """Choose the encoder of H.264, then start as `Stage` does.

        :raises StartError: the one that is asked for does not work
        """
        try:
            async with asyncio.timeout(_ENCODER_SECONDS):
                self.h264 = await asyncio.to_thread(choose, self.config.video_encoder)
        except TimeoutError:
            raise StartError(f"no frame was encoded in {_ENCODER_SECONDS:g} s") from None
        log.info("event=video_encoder encoder=%s", self.h264)
        await super().start()

    def identity(self, extra_look_ahead_ms: int = 0) -> StageInfo:
        """See `Stage`; with the encoder of H.264."""
        info = super().identity(extra_look_ahead_ms)
        info.video_encoder = self.h264
        return info

    async def warm_up(self) -> None:
        """Run the model that needs no portrait; the others warm up as they are loaded."""
        await self.triton.warm_up("inpainter")

    def probe(self) -> Probe[RenderRequest, RenderResponse]:
        """See `Stage`: a grey face turns from side to side and opens its mouth."""
        motion = neutral(MOTION_FPS)
        swing = np.sin(2 * np.pi * np.arange(MOTION_FPS) / MOTION_FPS)
        motion[:, YAW], motion[:, ARKIT_INDEX["jawOpen"]] = 10 * swing, swing**2
        seconds = (
            RenderRequest(motion=motion_message(first, motion))
            for first in itertools.count(0, MOTION_FPS)
        )
        config = RenderConfig(portrait_handle=GREY_FACE, codec=media_pb2.VIDEO_CODEC_H264)
        return Probe(RenderStream(self, config), seconds)

    async def Render(self, requests: AsyncIterator[RenderRequest], context: Context) -> None:
        """See renderer.proto."""
        await self.serve(
            context,
            "Render",
            lambda config: RenderStream(self, config),
            RenderResponse,
        )

    async def PreparePortrait(
        self, requests: AsyncIterator[renderer_pb2.PreparePortraitRequest], context: Context
    ) -> renderer_pb2.PreparePortraitResponse:
        """See renderer.proto."""
        async with self.host.call(context, "PreparePortrait") as call:
            content = await self._read_image(context)
            handle = handle_of(content)
            if not self.store.has(handle):
                await self._prepare(handle, content)
            portrait = await asyncio.to_thread(self.store.portrait, handle)
            call.result()
        return renderer_pb2.PreparePortraitResponse(portrait=portrait)

    async def _read_image(self, context: Context) -> bytes:
        content = bytearray()
        while (message := await read(context, self.config.idle_timeout)) is not None:
            check_size(message.data, "data")
            content += message.data
            if len(content) > MAX_BYTES:
                raise ServiceError(
                    "IMAGE_TOO_LARGE",
                    f"the portrait has more than {MAX_BYTES} bytes",
                    metadata={"limit": str(MAX_BYTES)},
                )
        return bytes(content)

    async def _prepare(self, handle: str, content: bytes) -> None:
        """Prepare a portrait; calls with the same bytes share the work.

        If all of them end before it has begun, it is cancelled.
        """
        self.check_ready()
        task = self._preparations.get(handle)
        if task is None:
            if len(self._preparations) >= _MAX_PREPARATIONS:
                raise ServiceError("NO_CAPACITY", "too many portraits are being prepared")
            task = asyncio.create_task(self._run_preparation(handle, content))
            self._preparations[handle] = task
            task.add_done_callback(partial(self._forget_preparation, handle))
        self._awaited[handle] += 1
        try:
            await asyncio.shield(task)
        finally:
            self._awaited -= collections.Counter((handle,))  # keeps no zeros
            if handle not in self._awaited and handle != self._current:
                task.cancel()
                self._forget_preparation(handle, task)

    def _forget_preparation(self, handle: str, task: asyncio.Task[None]) -> None:
        if self._preparations.get(handle) is task:
            del self._preparations[handle]
        if task.done() and not task.cancelled():
            task.exception()  # retrieved, also if no caller is left

    async def _run_preparation(self, handle: str, content: bytes) -> None:
        # One after the other, as Triton would: what waits here can still be cancelled.
        async with self._preparing:
            self._current = handle
            with self.host.metrics.timed(PREPARATION):
                await self.triton.infer(
                    PREPARATION,
                    {"image": np.frombuffer(content, np.uint8)},
                    seconds=_PREPARATION_SECONDS,
                )
        deleted = await asyncio.to_thread(self.store.evict, list(self.in_use))
        if deleted:
            log.info("event=portraits_evicted files=%d", len(deleted))


async def main() -> int:
    """Serve until a signal; the result is the exit code."""
    config = load_or_exit(RendererConfig)
    set_up_logging(RendererStage.name, config.log_level)
    return await RendererStage(config).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
