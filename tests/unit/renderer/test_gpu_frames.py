"""Frames on a GPU, which is simulated: the same as on the CPU, alone and in batches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.video import Background, BackgroundKind, RenderLevel, View
from talkingface.renderer.geometry import FRAME, PreparedPortrait, prepare
from talkingface.renderer.geometry.cuda_canvas import CudaCanvas, ResidentArrays
from talkingface.renderer.pixels import dlpack
from talkingface.renderer.pixels.code_cache import CodeCache
from talkingface.renderer.pixels.cuda import all_kernels
from talkingface.renderer.pixels.device_array import DeviceArray
from talkingface.renderer.worker.backgrounds import cut_out, with_background
from talkingface.renderer.worker.devices import (
    CpuDevice,
    Device,
    FrameRequest,
    Infer,
    Tensors,
    frames_of,
    warm_up,
)
from talkingface.renderer.worker.frame_synthesis import all_moved, grey_face, whole_photo
from talkingface.renderer.worker.gpu_device import GpuDevice
from talkingface.renderer.worker.synthesis import FrameSynthesis, SynthesisRequest
from talkingface.renderer.worker.viewport import PhotoPixels, make_viewer
from talkingface.v1.media_pb2 import FRAMING_CROP, FRAMING_PHOTO
from tests.support.simulated_gpu import SimulatedGpu, value_of

GREEN = Background(BackgroundKind.COLOUR, colour=(90, 120, 60))
PLANAR = View(FRAMING_CROP, FRAME, FRAME, planar=True)
VIEWS = {
    "planes": (PLANAR, RenderLevel.FULL),
    "rgb": (View(FRAMING_CROP, FRAME, FRAME), RenderLevel.FULL),
    "half": (PLANAR, RenderLevel.HALF_RESOLUTION),
    "small": (View(FRAMING_CROP, 256, 256, planar=True), RenderLevel.FULL),
    "photo": (View(FRAMING_PHOTO, FRAME, FRAME, planar=True), RenderLevel.FULL),
}


def _portrait(seed: int, yaw: float) -> PreparedPortrait:
    """A face of coarse noise, with an edge around the head."""
    random = np.random.default_rng(seed)
    _, points = grey_face(yaw)
    coarse = random.integers(40, 216, (33, 33, 3)).astype(np.float32)
    frame = np.kron(coarse, np.ones((16, 16, 1)))[:FRAME, :FRAME].astype(np.uint8)
    rows, columns = np.mgrid[:FRAME, :FRAME]
    away = np.hypot((columns - 256) / 150, (rows - 256) / 200)
    matte = np.clip((1.1 - away) / 0.2, 0, 1).astype(np.float32)
    return prepare(frame, points, matte, np.full_like(frame, 90))


@pytest.fixture(scope="module")
def portraits() -> list[PreparedPortrait]:
    return [_portrait(0, 25), _portrait(1, 0)]


@pytest.fixture(scope="module")
def gpu() -> SimulatedGpu:
    return SimulatedGpu()


@pytest.fixture(scope="module")
def device(gpu: SimulatedGpu) -> GpuDevice:
    return GpuDevice(gpu)


def _requests(portraits: list[PreparedPortrait]) -> dict[str, FrameRequest]:
    """A frame of each view, level and portrait."""
    found = {}
    for number, portrait in enumerate(portraits):
        nothing = np.zeros((0, 0, 3), np.uint8)
        pixels = PhotoPixels(nothing, portrait.frame, (0, 0, FRAME))
        for name, (view, level) in VIEWS.items():
            viewer = make_viewer(portrait, pixels, view)
            found[f"{name} {number}"] = FrameRequest(viewer, all_moved(), level)
    viewer = found["planes 0"].viewer
    found["still 0"] = FrameRequest(viewer, portraits[0].own_motion, RenderLevel.FULL)
    return found


def _network(inputs: Tensors) -> Tensors:
    """Residuals that depend on what a row shows, in the memory of the inputs."""
    out = []
    for name in ("mouth", "eyes"):
        crops = inputs[name]
        values = value_of(crops) if isinstance(crops, DeviceArray) else crops
        residual = values[..., :4].astype(np.float32) / 255
        residual[..., :3] -= 0.5
        residual[..., 3] = values[..., 3] > 0
        out.append(residual * np.float32(0.3))
    outputs = dict(zip(("mouth_residual", "eyes_residual"), out, strict=True))
    if not isinstance(inputs["mouth"], DeviceArray):
        return outputs
    _network.kept = outputs  # type: ignore[attr-defined]
    return {
        name: DeviceArray(value.ctypes.data, value.shape, value.dtype)
        for name, value in outputs.items()
    }


def _on_host(inputs: Tensors) -> Tensors:
    """A network whose results are in the memory of the host."""
    return {
        name: np.array(value_of(value) if isinstance(value, DeviceArray) else value)
        for name, value in _network(inputs).items()
    }


def _images(device: Device, requests: Iterable[FrameRequest], network: Infer) -> list[Any]:
    """The frames of a batch, none of which fails, as copies."""
    frames = frames_of(device, list(requests), network)
    assert all(isinstance(frame, np.ndarray) for frame in frames)
    return [np.array(frame) for frame in frames]


def test_frames_of_a_gpu_are_those_of_the_cpu(
    portraits: list[PreparedPortrait], device: GpuDevice
) -> None:
    requests = _requests(portraits)
    wanted = _images(CpuDevice(), requests.values(), _network)
    found = _images(device, requests.values(), _network)
    for name, one, other in zip(requests, wanted, found, strict=True):
        assert one.shape == other.shape
        apart = np.abs(one.astype(int) - other)
        assert apart.max() <= 1, name
        assert one.std() > 10  # there is something to see


def test_a_gpu_draws_other_backgrounds(
    portraits: list[PreparedPortrait], device: GpuDevice
) -> None:
    portrait = cut_out(portraits[0])
    clear = np.full((FRAME, FRAME, 4), (90, 120, 60, 0), np.uint8)
    requests = []
    for background, pixels in ((Background(BackgroundKind.TRANSPARENT), clear), (GREEN, clear)):
        behind = pixels if background != GREEN else np.ascontiguousarray(pixels[..., :3])
        shown = with_background(portrait, whole_photo(portrait.frame), behind)
        for planar in (False, True):
            viewer = make_viewer(*shown, View(FRAMING_CROP, FRAME, FRAME, planar, background))
            motions = (all_moved(), portrait.own_motion)
            requests += [FrameRequest(viewer, each, RenderLevel.FULL) for each in motions]
        requests.append(FrameRequest(viewer, all_moved(), RenderLevel.HALF_RESOLUTION))
    wanted = _images(CpuDevice(), requests, _network)
    found = _images(device, requests, _network)
    for one, other in zip(wanted, found, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    opacity = found[0][..., 3]
    assert opacity.min() == 0
    assert opacity.max() == 255


@pytest.mark.parametrize("kind", [CpuDevice, GpuDevice])
def test_a_batch_gives_the_frames_of_single_requests(
    portraits: list[PreparedPortrait], device: GpuDevice, kind: Any
) -> None:
    used = device if kind is GpuDevice else CpuDevice()
    requests = list(_requests(portraits).values())
    together = _images(used, requests, _network)
    for request, wanted in zip(requests, together, strict=True):
        (alone,) = _images(used, [request], _network)
        np.testing.assert_array_equal(alone, wanted)


def test_residuals_of_the_host_are_pasted_as_well(
    portraits: list[PreparedPortrait], device: GpuDevice
) -> None:
    requests = list(_requests(portraits).values())
    wanted = _images(device, requests, _network)
    for one, other in zip(wanted, _images(device, requests, _on_host), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_result_depends_on_the_order_of_threads(
    portraits: list[PreparedPortrait], device: GpuDevice
) -> None:
    requests = list(_requests(portraits).values())
    backwards = GpuDevice(SimulatedGpu(backwards=True))
    wanted = _images(device, requests, _network)
    for one, other in zip(wanted, _images(backwards, requests, _network), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [CpuDevice, GpuDevice])
def test_a_request_that_fails_harms_no_other(
    portraits: list[PreparedPortrait], device: GpuDevice, kind: Any
) -> None:
    used = device if kind is GpuDevice else CpuDevice()
    viewer = _requests(portraits)["planes 0"].viewer

    def viewer_of(digest: bytes, values: Any) -> Any:
        if digest != bytes(32):
            raise ServiceError("PORTRAIT_NOT_FOUND", "unknown")
        return viewer

    known, unknown = np.zeros(32, np.uint8), np.ones(32, np.uint8)
    view, full = PLANAR.to_array(), np.array([RenderLevel.FULL], np.int32)
    good = SynthesisRequest(known, all_moved(), view, full)
    broken = good._replace(motion=np.full(60, np.nan, np.float32))
    no_level = good._replace(level=np.array([99], np.int32))
    synthesis = FrameSynthesis(used, viewer_of, _network)
    (alone,) = synthesis([good])
    assert isinstance(alone, np.ndarray)
    wanted = alone.copy()
    missing = good._replace(portrait=unknown)
    results = synthesis([missing, good, broken, no_level, good])
    assert isinstance(results[0], ServiceError)
    assert isinstance(results[2], ValueError) and isinstance(results[3], ValueError)
    for index in (1, 4):
        result = results[index]
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, wanted)
    assert all(isinstance(result, Exception) for result in synthesis([missing, broken]))


def test_a_frame_has_one_upload_and_few_launches(
    portraits: list[PreparedPortrait], gpu: SimulatedGpu, device: GpuDevice
) -> None:
    request = _requests(portraits)["planes 0"]
    frames_of(device, [request], _network)
    launches, uploads, gpu.calls["to_host"] = device.launches, device.uploads, 0
    allocated = gpu.calls["allocate"]
    frames_of(device, [request], _network)
    assert device.uploads - uploads == 2  # what is planned; matrices of the residuals
    assert device.launches - launches <= 44
    assert gpu.calls["to_host"] == 1
    assert gpu.calls["allocate"] == allocated


def test_warming_up_launches_every_kernel_with_all_types() -> None:
    gpu = SimulatedGpu()
    warm_up(GpuDevice(gpu))
    launched = [kernel.name for kernel, _ in gpu.kernels]
    assert set(launched) == set(all_kernels())
    # `soften` of two layers, for example, is no second kernel.
    assert len(launched) == len(set(launched))


def test_the_types_of_kernels_are_known_after_warming_up(
    portraits: list[PreparedPortrait],
) -> None:
    gpu = SimulatedGpu()
    device = GpuDevice(gpu)
    warm_up(device)
    compiled = len(gpu.kernels)
    frames_of(device, list(_requests(portraits).values()), _network)
    assert len(gpu.kernels) == compiled


def test_a_failing_gpu_fails_the_batch(portraits: list[PreparedPortrait]) -> None:
    gpu = SimulatedGpu()
    device, request = GpuDevice(gpu), _requests(portraits)["planes 0"]
    gpu.fails = True
    with pytest.raises(RuntimeError, match="CUDA_ERROR"):
        frames_of(device, [request], _network)


def test_an_array_of_the_host_is_no_argument_of_a_kernel() -> None:
    gpu = SimulatedGpu()
    canvas = CudaCanvas(gpu, ResidentArrays(gpu, 1), 64)
    canvas.kernels.write_i420(canvas.image, np.empty((96, 64), np.uint8))
    with pytest.raises(TypeError, match="ndarray"):
        canvas.queue.submit()


def test_arrays_unused_for_longest_leave_the_gpu() -> None:
    gpu = SimulatedGpu()
    arrays = [np.full(100, n, np.uint8) for n in range(3)]
    resident = ResidentArrays(gpu, 250)
    first = resident(arrays[0])
    resident(arrays[1])
    assert resident(arrays[0]) is first
    resident(arrays[2])
    assert resident.nbytes == 300  # a frame under way may need them all
    resident.trim()
    assert (len(resident), resident.nbytes) == (2, 200)
    assert resident(arrays[0]) is first
    np.testing.assert_array_equal(value_of(resident(arrays[1])), arrays[1])


def test_large_uploads_get_memory_of_their_own() -> None:
    gpu = SimulatedGpu()
    canvas = CudaCanvas(gpu, ResidentArrays(gpu, 1), 64)
    arrays = [np.full(size, n, np.uint8) for n, size in enumerate((700_000, 600_000, 3_000_000))]
    for _ in range(2):
        copies = [canvas.upload(array) for array in arrays]
        canvas.queue.submit()
        for array, copy in zip(arrays, copies, strict=True):
            np.testing.assert_array_equal(value_of(copy), array)
        canvas.wait()


def test_device_arrays_are_cut_as_those_of_numpy() -> None:
    gpu = SimulatedGpu()
    values = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    array = DeviceArray(gpu.allocate(values.nbytes), values.shape, np.float32)
    gpu.to_device(None, array.pointer, values)
    for key in (1, -1, slice(1, 3), (2, slice(1, 4)), (slice(1, 3), slice(0, 2)), (0, 1, 2)):
        np.testing.assert_array_equal(value_of(array[key]), values[key])
    np.testing.assert_array_equal(value_of(array[1].reshape(-1)), values[1].reshape(-1))
    np.testing.assert_array_equal(value_of(array.view(np.int32)), values.view(np.int32))
    assert [len(part) for part in array] == [5] * 4
    for wrong in (4, slice(0, 4, 2)):
        with pytest.raises(IndexError):
            array[wrong]
    with pytest.raises(ValueError):
        array[1:3, 0:2].reshape(-1)
    with pytest.raises(ValueError):
        array.view(np.uint8)


def test_arrays_pass_by_dlpack_without_a_copy() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = DeviceArray(values.ctypes.data, values.shape, values.dtype)

    class Exported:
        """Memory of the host, which numpy takes."""

        def __dlpack__(self, stream: None = None) -> Any:
            return dlpack.export(array, 0, kind=1)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    held = len(dlpack._exported)
    other = np.from_dlpack(Exported())
    assert np.shares_memory(other, values)
    np.testing.assert_array_equal(other, values)
    capsule = values.__dlpack__()
    taken = dlpack.imported(capsule)
    assert (taken.pointer, taken.shape, taken.dtype) == (array.pointer, array.shape, array.dtype)
    assert taken.kind == array.kind
    del other
    assert len(dlpack._exported) == held  # numpy has deleted it
    with pytest.raises(ValueError, match="contiguous"):
        dlpack.export(array[:, 0:1], 0)
    with pytest.raises(ValueError, match="contiguous"):
        dlpack.imported(values[:, 1:].__dlpack__())


def test_code_is_compiled_once_for_what_decides_it(tmp_path: Path) -> None:
    made: list[str] = []

    def compiled(name: str) -> Any:
        def make() -> tuple[str, bytes]:
            made.append(name)
            return name, b"code\nof " + name.encode()

        return make

    for _ in range(2):  # another process
        cache = CodeCache(tmp_path / "kernels")
        for name in ("draw", "merge"):
            assert cache(name, compiled(name)) == (name, b"code\nof " + name.encode())
    assert made == ["draw", "merge"]
    nowhere = tmp_path / "file"
    nowhere.touch()
    assert CodeCache(nowhere)("draw", compiled("draw"))[0] == "draw"
