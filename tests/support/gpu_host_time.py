"""CPU time of a frame that is drawn on a GPU, whose own work is left out.

python -m tests.support.gpu_host_time

Plan, collection of commands, packing of arguments and copies of uploads are in it; calls of the
driver are not.
"""

from __future__ import annotations

import time

import numpy as np

from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.geometry import FRAME
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.worker.devices import OUTPUTS, FrameRequest, Tensors, frames_of
from talkingface.renderer.worker.frame_synthesis import all_moved, grey_portrait, whole_photo
from talkingface.renderer.worker.gpu_device import GpuDevice
from talkingface.renderer.worker.viewport import make_viewer
from talkingface.v1.media_pb2 import FRAMING_CROP
from tests.support.simulated_gpu import IdleGpu

BATCHES, FRAMES = (1, 8, 32), 192


def main() -> None:
    """Print the median for each size of batch."""
    portrait = grey_portrait()
    view = View(FRAMING_CROP, FRAME, FRAME, planar=True)
    viewer = make_viewer(portrait, whole_photo(portrait.frame), view)
    random = np.random.default_rng(0)
    device = GpuDevice(IdleGpu())

    def infer(inputs: Tensors) -> Tensors:
        shapes = ((*inputs[name].shape[:-1], 4) for name in ("mouth", "eyes"))
        pairs = zip(OUTPUTS, shapes, strict=True)
        return {name: DeviceArray(1, shape, np.float32) for name, shape in pairs}

    for batch in BATCHES:
        times = []
        for _ in range(FRAMES // batch):
            motion = [all_moved() * np.float32(random.uniform(0.5, 1)) for _ in range(batch)]
            requests = [FrameRequest(viewer, m, RenderLevel.FULL) for m in motion]
            start = time.thread_time()
            frames_of(device, requests, infer)
            times.append((time.thread_time() - start) / batch)
        launches, uploads = device.launches, device.uploads
        frames_of(device, requests, infer)
        each = [(device.launches - launches) / batch, (device.uploads - uploads) / batch]
        milliseconds = 1000 * float(np.median(times))
        print(f"batch {batch}: {milliseconds:.2f} ms a frame", "launches, uploads:", *each)


if __name__ == "__main__":
    main()
