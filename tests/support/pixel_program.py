"""Loops or kernels of the pixel functions run once on a frame of 64 x 32 pixels.

Eyes and mouth are not among them: `simulated_gpu` draws whole frames.

python -m tests.support.pixel_program sm_90     # compile all kernels for a GPU; none is needed
"""

from __future__ import annotations

import importlib
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from talkingface.renderer.pixels import face, layers
from talkingface.renderer.pixels.cuda_driver import assemble
from talkingface.renderer.pixels.cuda_kernel import SLOT
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.pixels.triangles import table_width
from talkingface.renderer.worker.devices import warm_up
from talkingface.renderer.worker.gpu_device import GpuDevice
from tests.support.simulated_gpu import IdleGpu

HEIGHT, WIDTH = 32, 64
CELL = 4


def run(kernels: Any) -> dict[str, np.ndarray]:
    """Draw a small scene.

    :param kernels: the module `cpu`, or `simulated_kernels()`.
    :return: results by name.
    """
    random = np.random.default_rng(0)
    out: dict[str, np.ndarray] = {}

    def pixels(height: int, width: int) -> np.ndarray:
        coarse = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 4))
        fine = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
        return np.ascontiguousarray(fine.astype(np.uint8)).view(np.uint32)[..., 0]

    points = np.array(
        [
            [5.1, 4.2, 1],
            [6, 27, 1],
            [52.3, 5.4, 3],
            [58, 29, 1],
            [30, 2, 0],
            [20, 30, 4],
            [60, 12, 2],
        ],
        np.float32,
    )
    corners = np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6]], np.int32)
    values = np.concatenate([points[:, :2].T, [[1, 1, 0.5, 1, 0.3, 1, 0]]]).astype(np.float32)
    ids, depth = np.empty((HEIGHT, WIDTH), np.int32), np.empty((HEIGHT, WIDTH), np.float32)
    table = np.zeros((len(corners), table_width(len(values))), np.float32)
    kernels.draw_triangles(points, values, corners, False, table, ids, depth)
    out["ids"] = ids
    drawn = np.empty((3, HEIGHT, WIDTH), np.float32)
    kernels.attributes_at(ids, table, drawn)
    out["attributes"] = drawn.copy()

    scratch, opacity = np.empty((2, HEIGHT, WIDTH), np.float32)
    kernels.soften(drawn[2], scratch, opacity)
    layer = face.FacePixels(drawn[0], drawn[1], opacity, ids)
    kernels.continue_flow(layer)
    out |= {"opacity": opacity.copy(), "flow": drawn[:2].copy()}
    hidden = np.zeros((HEIGHT // layers.TILE_ROWS, WIDTH // layers.TILE), np.bool_)
    kernels.find_hidden(opacity, layers.TILE_ROWS, layers.TILE, hidden)
    out["hidden"] = hidden
    hidden = np.zeros_like(hidden)
    hidden[2, 1] = True

    margin = 2 * layers.MARGIN
    rear = pixels(HEIGHT + margin, WIDTH + margin)
    places = np.sort(random.choice(rear.size, 300, replace=False)).astype(np.int32)
    whole, without = random.integers(0, 1 << 32, (2, 300), dtype=np.uint32)
    slope, zero, one = np.float32(0.01), np.float32(0), np.float32(1)
    across, up = (slope, zero, -one), (zero, slope, -one)
    clearing = layers.Clearing(np.float32(0.7), (np.float32(0.2), zero), across, up)
    kernels.clear_pixels(places, whole, without, clearing, rear)
    out["rear"] = rear
    blocks = (rear.shape[0] // layers.BLOCK, rear.shape[1] // layers.BLOCK)
    sources = layers.Sources(
        pixels(2 * HEIGHT, 2 * WIDTH),
        pixels(HEIGHT, WIDTH),
        pixels(HEIGHT, WIDTH),
        rear,
        np.zeros(blocks, np.uint8),
        np.full(blocks, 255, np.uint8),
    )
    down, along = np.mgrid[: HEIGHT // CELL, : WIDTH // CELL].astype(np.float32) * CELL + 1.5
    flow = np.stack([along + 1.3, down - 2.6])
    image = np.zeros((HEIGHT, WIDTH), np.uint32)
    kernels.compose_rear(sources, flow, hidden, np.empty((2, WIDTH), np.float32), image)
    out["composed"] = image.copy()

    mask = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    kernels.write_stretch(layer, np.array([0.2, 0.5, 1], np.float32), 0, 0, mask)
    share = np.full_like(opacity, 0.4)
    kernels.share_opacity(opacity, share)
    kernels.blend_face(sources.photo, layer, 0, 0, image)
    kernels.blend_texture(sources.photo, layer._replace(opacity=share), 0, 0, image)
    out |= {"stretch": mask, "image": image.copy()}

    crop = np.empty((16, 16, 8), np.uint8)
    own = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    back = np.array([[1.9, 0.3, 20], [-0.3, 1.9, 9]], np.float32)
    pairs = mask.view(np.uint16)[..., 0]
    kernels.cut_crop(image, pairs, own, back, crop.view(np.uint64)[..., 0])
    out["crop"] = crop
    residual = random.uniform(-0.3, 1, (16, 16, 4)).astype(np.float32)
    residual[..., 3] = residual[..., 3] > 0.3
    matrix = np.array([[0.5, 0.1, -9], [-0.1, 0.5, 1]], np.float32)
    edge = np.sin(np.linspace(0, np.pi, 16, dtype=np.float32))
    kernels.paste_residual(residual, edge, matrix, (8, 2, 60, 30), image)
    out["pasted"] = image.copy()
    planes = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    kernels.write_i420(image, planes)
    out["planes"] = planes
    return out


def simulated_kernels() -> Any:
    """The kernels on arrays of this process, each thread run by numba's simulator."""
    module: Any = importlib.import_module("talkingface.renderer.pixels.cuda")
    empty = importlib.import_module("talkingface.renderer.pixels.cuda_frame").EMPTY

    def launch(kernel: Any, shape: tuple[int, ...], *args: Any) -> None:
        compiled = importlib.import_module("numba.cuda").jit(kernel.python)
        blocks, threads = kernel.grid(shape)
        compiled[blocks, threads](*(shape if kernel.flat else shape[::-1]), args)

    memory = SimpleNamespace(
        nearest=lambda height, width: np.full((height, width), empty, np.int64),
        scratch=lambda name, shape, dtype: np.empty(shape, dtype),
    )
    return module.CudaKernels(launch, memory)


def compile_kernels(capability: tuple[int, int]) -> dict[str, bytes]:
    """Compile every kernel as warming up launches it, and assemble it; no GPU is needed.

    :param capability: compute capability, such as (9, 0).
    :return: code by the kernels' names.
    :raises ValueError: a kernel does not take its arguments as they are packed.
    """
    core: Any = importlib.import_module("cuda.core")
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    # Device functions are compiled for the device at hand, for which this stands in.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    gpu = IdleGpu()
    warm_up(GpuDevice(gpu))
    code: dict[str, bytes] = {}
    for kernel, args in gpu.kernels:
        entry, text = kernel.ptx(args, capability)
        wanted = ["u64"] * (1 if kernel.flat else 2) + _parameters(args)
        if _declared(text, entry) != wanted:
            raise ValueError(f"{kernel.name}: {_declared(text, entry)} instead of {wanted}")
        code[kernel.name] = assemble(core, text, capability)
    return code


def _declared(ptx: str, entry: str) -> list[str]:
    """The types of an entry's parameters."""
    head = ptx.split(f".visible .entry {entry}(")[1].split(")\n")[0]
    return re.findall(r"\.param \.(\w+)", head)


def _parameters(args: tuple[Any, ...]) -> list[str]:
    """The types of the numbers that `flatten` packs."""
    found: list[str] = []
    for value in args:
        if isinstance(value, tuple):
            found += _parameters(value)
        elif isinstance(value, DeviceArray):
            found += ["u64"] * (len(value.packed) // SLOT)
        else:
            found.append({np.float32: "f32", bool: "u8", np.bool_: "u8"}.get(type(value), "u64"))
    return found


if __name__ == "__main__":
    digits = sys.argv[1].removeprefix("sm_")
    compiled = compile_kernels((int(digits[:-1]), int(digits[-1])))
    for kernel_name, binary in compiled.items():
        print(f"{kernel_name}: {len(binary)} bytes")
    print(f"{len(compiled)} kernels compiled for {sys.argv[1]}")
