"""Renders what may come after the warm-up, and prints the kernels that were not loaded by it.

python -m tests.support.warm_up_program
"""

from __future__ import annotations

import io
import sys

import numpy as np
from numba.core.dispatcher import Dispatcher

from talkingface.contract.motion import ARKIT_INDEX, YAW, neutral
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.geometry import FRAME, PreparedPortrait, prepare
from talkingface.renderer.portrait_store import PORTRAIT, pack, unpack
from talkingface.renderer.worker.devices import (
    OUTPUTS,
    CpuDevice,
    FrameRequest,
    Tensors,
    frames_of,
    warm_up,
)
from talkingface.renderer.worker.frame_synthesis import grey_face, whole_photo
from talkingface.renderer.worker.viewport import make_viewer
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO


def kernels() -> set[str]:
    """The kernels that are loaded, with the types that they are for."""
    modules = [m for name, m in sys.modules.items() if name.startswith("talkingface.renderer")]
    found = {id(v): v for m in modules for v in vars(m).values() if isinstance(v, Dispatcher)}
    return {f"{k.py_func.__qualname__} {s}" for k in found.values() for s in k.signatures}


def stored(portrait: PreparedPortrait) -> PreparedPortrait:
    """A portrait as it comes back from the store."""
    file = io.BytesIO()
    np.savez(file, **pack(portrait, PORTRAIT))
    file.seek(0)
    with np.load(file) as arrays:
        return unpack(PreparedPortrait, dict(arrays), PORTRAIT)


def network(inputs: Tensors) -> Tensors:
    """Stand in for the inpainter."""
    rows = len(inputs["mouth"])
    shapes = ((rows, 128, 128, 4), (rows, 2, 64, 64, 4))
    return {n: np.full(s, 0.1, np.float32) for n, s in zip(OUTPUTS, shapes, strict=True)}


def main() -> None:
    """Run the program."""
    motions = []
    for yaw in (-20, 0, 20):
        for name in ("jawOpen", "eyeBlinkLeft", "eyeLookUpRight", "mouthPucker", "mouthSmileLeft"):
            motions.append(neutral(1)[0])
            motions[-1][[YAW, ARKIT_INDEX[name]]] = yaw, 0.6
    motions += [neutral(1)[0]]

    faces = [grey_face(yaw, jaw) for yaw in (-30.0, 0.0, 30.0) for jaw in (0.0, 0.5)]
    full = np.ones((FRAME, FRAME), np.float32)
    portraits = [stored(prepare(grey, points, full, grey)) for grey, points in faces]
    device = CpuDevice()
    warm_up(device)
    known = kernels()
    for portrait in portraits:
        for framing in (FRAMING_CROP, FRAMING_PHOTO):
            viewer = make_viewer(
                portrait, whole_photo(portrait.frame), View(framing, FRAME, FRAME, planar=True)
            )
            for motion in (*motions, portrait.own_motion):
                for level in (RenderLevel.FULL, RenderLevel.HALF_RESOLUTION):
                    frames_of(device, [FrameRequest(viewer, motion, level)], network)
    assert len(known) > 50
    print(*sorted(kernels() - known), sep="\n", end="")


if __name__ == "__main__":
    main()
