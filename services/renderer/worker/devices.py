"""Batches of frames on one device: any portraits, views and levels, one run of the network.

A device draws the requested frames (`render`), and pastes what the network returns for all of them
(`finish`). A request that cannot be drawn fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from talkingface.contract.motion import neutral
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.arrays import AnyArray, Float32Array, Uint8Image
from talkingface.renderer.geometry import FRAME, WarpedFrame
from talkingface.renderer.geometry.frame import EYE_CROP, MOUTH_CROP
from talkingface.renderer.worker.frame_synthesis import (
    all_moved,
    finish,
    grey_portrait,
    inpainter_inputs,
    whole_photo,
)
from talkingface.renderer.worker.viewport import Canvases, Viewer, make_viewer
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO

INPUTS = ("mouth", "eyes", "mouth_control", "eyes_control")
OUTPUTS = ("mouth_residual", "eyes_residual")

Tensors = dict[str, Any]  # arrays of the host or of a GPU, by name, with a batch dimension
Infer = Callable[[Tensors], Tensors]


class FrameRequest(NamedTuple):
    """One frame to render."""

    viewer: Viewer
    motion: Float32Array  # (60,)
    level: RenderLevel


class Device(Protocol):
    """Where frames are drawn; one batch at a time."""

    cache_bytes: int  # of portraits and viewers that the host keeps

    def render(self, requests: Sequence[FrameRequest]) -> tuple[Tensors, list[ValueError | None]]:
        """Draw frames.

        :return: the network's inputs, a row for each frame drawn; and for each request, why it is
            not.
        """

    def finish(self, outputs: Tensors) -> list[Uint8Image]:
        """Paste the network's outputs into the frames drawn, and bring these into their views.

        :return: an image for each frame drawn, valid until the next batch.
        """


def frames_of(
    device: Device, requests: Sequence[FrameRequest], infer: Infer
) -> list[Uint8Image | ValueError]:
    """Render a batch; the result has an image or an error for each request.

    :param infer: runs the network on a batch.
    """
    inputs, errors = device.render(requests)
    drawn = device.finish(infer(inputs)) if None in errors else []
    images = iter(drawn)
    return [next(images) if error is None else error for error in errors]


def warm_up(device: Device) -> None:
    """Render a batch in which all kernels of a device run."""
    portrait = grey_portrait()
    crop, photo = (
        make_viewer(portrait, whole_photo(portrait.frame), View(framing, FRAME, FRAME, planar=True))
        for framing in (FRAMING_CROP, FRAMING_PHOTO)
    )
    still, moved, shut = portrait.own_motion, all_moved(), neutral(1)[0]
    full, half = RenderLevel.FULL, RenderLevel.HALF_RESOLUTION
    crops = ((moved, full), (still, full), (shut, full), (still, half))
    frames = (*((crop, *asked) for asked in crops), (photo, moved, full))
    requests = [FrameRequest(*frame) for frame in frames]

    def infer(inputs: Tensors) -> Tensors:
        rows = len(inputs["mouth_control"])
        mouth, eyes = (rows, MOUTH_CROP, MOUTH_CROP, 4), (rows, 2, EYE_CROP, EYE_CROP, 4)
        shapes = zip(OUTPUTS, (mouth, eyes), strict=True)
        return {name: np.full(shape, 0.1, np.float32) for name, shape in shapes}

    frames_of(device, requests, infer)


class CpuDevice:
    """Frames drawn by the processor, one after the other."""

    cache_bytes = 64 << 20  # portraits of 10 MB, views up to 50 MB more

    def __init__(self) -> None:
        self._canvases: list[Canvases] = []  # as many as the largest batch so far has frames
        self._drawn: list[tuple[Viewer, WarpedFrame]] = []

    def render(self, requests: Sequence[FrameRequest]) -> tuple[Tensors, list[ValueError | None]]:
        """As `Device.render`."""
        self._drawn = []
        errors: list[ValueError | None] = []
        for request in requests:
            if len(self._drawn) == len(self._canvases):
                self._canvases.append(Canvases())
            canvases = self._canvases[len(self._drawn)]
            try:
                frame = request.viewer.render(request.motion, request.level, canvases)
            except ValueError as error:
                errors.append(error)
                continue
            errors.append(None)
            self._drawn.append((request.viewer, frame))
        return _stacked([inpainter_inputs(frame) for _, frame in self._drawn]), errors

    def finish(self, outputs: Tensors) -> list[Uint8Image]:
        """As `Device.finish`."""
        images = []
        rows = zip(self._drawn, *(outputs[name] for name in OUTPUTS), strict=True)
        for (viewer, frame), mouth, eyes in rows:
            finish(frame, mouth, eyes)
            images.append(viewer.show(frame))
        return images


def _stacked(inputs: Sequence[dict[str, AnyArray]]) -> Tensors:
    """Inputs of some frames with a batch dimension; those of a single one are not copied."""
    if len(inputs) == 1:
        return {name: value[None] for name, value in inputs[0].items()}
    return {name: np.stack([each[name] for each in inputs]) for name in INPUTS} if inputs else {}
