"""The measures of the renderer's benchmark, on images whose faults are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX, PITCH, ROLL, YAW
from talkingface.renderer.face.camera import Camera, FaceFit
from talkingface.renderer.face.fitting import fit
from talkingface.renderer.face.landmarks import IRISES
from talkingface.renderer.face.model import FaceModel, rotation_matrices
from talkingface.renderer.geometry.eyes import RINGS
from talkingface_research.renderer.evaluation import features, flow, image_metrics
from talkingface_research.renderer.evaluation.poses import (
    NEUTRAL,
    motion_of,
    on_axis,
    poses,
    sheet_poses,
)
from talkingface_research.renderer.evaluation.readback import AXES, from_rest, iris_angle, measure
from talkingface_research.renderer.evaluation.reenactment import motions
from talkingface_research.renderer.evaluation.regions import hull, regions
from talkingface_research.renderer.evaluation.sections.expression import correlation

SIZE = 256
EVERYWHERE = np.ones((SIZE, SIZE), bool)
FULL = np.full((SIZE, SIZE), 255, np.uint8)


def identity_flow() -> np.ndarray:
    along = np.arange(SIZE, dtype=np.float32)
    return np.stack(np.meshgrid(along, along), -1)


def noise(seed: int = 0) -> np.ndarray:
    """A smooth random image, (256, 256, 3)."""
    grain = np.random.default_rng(seed).normal(0, 60, (SIZE, SIZE, 3)).astype(np.float32)
    return np.clip(128 + cv2.GaussianBlur(grain, (0, 0), 1.0), 0, 255).astype(np.uint8)


def surface_of(field: np.ndarray, carried: np.ndarray = FULL) -> flow.Surface:
    photo = noise()
    frame = flow.sample(photo, field.astype(np.float32))
    return flow.surface(field.astype(np.float32), carried, frame, photo, EVERYWHERE)


# --- folds, stretching, seams


def test_a_still_frame_has_neither_folds_nor_stretching() -> None:
    found = surface_of(identity_flow())
    assert found.share(found.folded) == found.share(found.stretched) == 0
    assert found.share(found.head) == 100


@pytest.mark.parametrize("turn", [0, 25])
def test_a_turned_frame_has_neither_as_well(turn: float) -> None:
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), turn, 1.2)
    field = identity_flow() @ matrix[:, :2].T + matrix[:, 2]
    found = surface_of(field)
    assert found.share(found.folded) == found.share(found.stretched) == 0
    assert found.share(found.seams) == 0


def test_a_mirrored_strip_is_folded() -> None:
    field = identity_flow()
    field[:, 100:120, 0] = 200 - field[:, 100:120, 0]  # 100, 99, ... goes on from 99
    found = surface_of(field)
    assert found.share(found.folded) == pytest.approx(100 * 20 / SIZE, rel=0.1)


def test_a_strip_that_is_not_from_the_photo_does_not_count() -> None:
    field = identity_flow()
    field[:, 100:120, 0] = 200 - field[:, 100:120, 0]
    carried = FULL.copy()
    carried[:, 95:125] = 0
    assert not surface_of(field, carried).folded.any()


@pytest.mark.parametrize(("factor", "share"), [(2.0, 0.0), (4.0, 100.0)])
def test_stretching_counts_beyond_three_times(factor: float, share: float) -> None:
    field = identity_flow()
    field[..., 1] /= factor
    found = surface_of(field)
    assert found.share(found.stretched) == pytest.approx(share, abs=1)
    assert not found.folded.any()


def test_a_jump_is_a_seam_where_it_is_visible() -> None:
    field = identity_flow()
    field[:, 128:, 0] -= 100
    plain = np.full((SIZE, SIZE, 3), 90, np.uint8)
    halves = plain.copy()
    halves[:, :60] = 180
    for photo, seam in ((plain, False), (halves, True)):
        frame = flow.sample(photo, field)
        found = flow.surface(field, FULL, frame, photo, EVERYWHERE)
        assert found.seams.any() == seam
        assert not found.folded.any()
        if seam:
            assert set(np.nonzero(found.seams)[1]) == {127}


# --- images


def test_equal_images_are_equal() -> None:
    assert image_metrics.psnr(noise(), noise(), EVERYWHERE) == 99
    assert image_metrics.ssim(noise(), noise()).mean() == pytest.approx(1)


def test_psnr_of_a_known_error() -> None:
    first = np.full((SIZE, SIZE, 3), 100, np.uint8)
    half = np.zeros((SIZE, SIZE), bool)
    half[:128] = True
    second = first.copy()
    second[half] += 10
    expected = 20 * np.log10(25.5)
    assert image_metrics.psnr(first, second, half) == pytest.approx(expected)
    assert image_metrics.psnr(first, second, EVERYWHERE) == pytest.approx(expected + 3.01, abs=0.01)


def test_different_noise_is_not_similar() -> None:
    assert image_metrics.ssim(noise(), noise(1)).mean() < 0.4


@pytest.mark.parametrize(
    ("sigma", "low", "high"), [(0.5, 0.7, 0.95), (1.0, 0.35, 0.6), (2.0, 0.0, 0.25)]
)
def test_blur_reduces_sharpness(sigma: float, low: float, high: float) -> None:
    blurred = cv2.GaussianBlur(noise(), (0, 0), sigma).astype(np.uint8)
    energy, reference = image_metrics.detail(blurred), image_metrics.detail(noise())
    assert low < image_metrics.sharpness(energy, reference, EVERYWHERE) < high
    assert image_metrics.sharpness(reference, reference, EVERYWHERE) == 1


def test_only_alternating_luma_flickers() -> None:
    frame = np.full((SIZE, SIZE, 3), 100, np.uint8)
    still = np.stack([frame] * 6)
    drift = np.stack([frame + 2 * i for i in range(6)])
    alternating = np.stack([frame + 2 * (i % 2) for i in range(6)])
    assert image_metrics.flicker(still, EVERYWHERE) == 0
    assert image_metrics.flicker(drift, EVERYWHERE) == 0
    assert image_metrics.flicker(alternating, EVERYWHERE) == pytest.approx(2)


# --- measuring a face


def landmarks_of(person: FaceFit, motion: np.ndarray) -> np.ndarray:
    """Landmarks (478, 2) of the 3D head in a motion, without rendering."""
    model = FaceModel.load()
    shape = model.landmarks(person.identity, motion[:ARKIT_DIM])
    angles = person.camera.angles + motion[[PITCH, YAW, ROLL]]
    camera = Camera(rotation_matrices(angles), person.camera.scale, person.camera.translation)
    return camera.project(shape[None])[0, :, :2]


@pytest.fixture(scope="module")
def person() -> FaceFit:
    model = FaceModel.load()
    camera = Camera(
        rotation_matrices(np.array([[2, -3, 1]], np.float32)),
        np.array([220], np.float32),
        np.array([[256, 300]], np.float32),
    )
    none = np.zeros(len(model.identity), np.float32)
    return fit(camera.project(model.landmarks(none, np.zeros(ARKIT_DIM, np.float32))[None])[0])


@pytest.mark.parametrize("axis", AXES)
def test_movements_are_measured_as_requested(axis: str, person: FaceFit) -> None:
    alone = on_axis(axis)
    rest = poses()[0]
    assert rest.name == NEUTRAL
    marks = np.stack([landmarks_of(person, pose.motion) for pose in (rest, *alone)])
    values = measure(marks, person)
    column = list(AXES).index(axis)
    found = from_rest(values, values[0])[1:, column].astype(float)
    requested = np.array([pose.requested[column] for pose in alone], float)
    assert correlation(requested, found) > 0.98
    if axis == "lids":
        found = found / values[0, column]
    slope = np.polyfit(requested, found, 1)[0]
    assert 0.75 < slope < 1.25


def test_an_iris_that_moved_by_half_its_radius_has_turned_by_thirty_degrees(
    person: FaceFit,
) -> None:
    reach = FaceModel.load().eye_radius * person.camera.scale[0]
    yaw, pitch = iris_angle(np.array([0.5 * reach, 0], np.float32), person.camera)
    assert yaw == pytest.approx(30, abs=1)
    assert pitch == pytest.approx(0, abs=2)
    assert iris_angle(np.array([0, -0.5 * reach], np.float32), person.camera)[1] > 25


def test_the_motion_of_a_clip_is_relative_to_its_portrait(person: FaceFit) -> None:
    class Own:
        fit = person
        own_motion = motion_of()

    requested = [motion_of(), motion_of(yaw=8, jawOpen=0.4), motion_of(pitch=-6, eyeBlink=0.9)]
    found = motions(Own(), np.stack([landmarks_of(person, one) for one in requested]), 0)  # type: ignore[arg-type]
    assert np.abs(found[0] - motion_of()).max() < 1e-3
    assert found[1, YAW] == pytest.approx(8, abs=2)
    assert found[1, ARKIT_INDEX["jawOpen"]] == pytest.approx(0.4, abs=0.15)
    assert found[2, PITCH] == pytest.approx(-6, abs=2)
    assert found[2, ARKIT_INDEX["eyeBlinkLeft"]] > 0.6


def test_poses_have_names_of_their_own() -> None:
    names = [pose.name for pose in poses()]
    assert len(set(names)) == len(names)
    assert len(sheet_poses()) == 17
    assert all(np.isfinite(pose.motion).all() for pose in poses())
    assert all(len(on_axis(axis)) >= 4 for axis in AXES)


# --- regions, lips, eyes


@pytest.fixture(scope="module")
def marks() -> np.ndarray:
    """Landmarks (478, 2) of the mean face in a frame of 512 pixels."""
    model = FaceModel.load()
    return (model.landmark_mean * (200, -200, 1))[:, :2].astype(np.float32) + 256


def test_regions_do_not_overlap(marks: np.ndarray) -> None:
    matte = np.zeros((512, 512), np.float32)
    low, high = marks.min(0).astype(int), marks.max(0).astype(int)
    matte[low[1] - 60 : high[1], low[0] - 20 : high[0] + 20] = 1
    matte[high[1] :, :] = 1
    found = regions(marks, matte)
    for mask in (found.skin, found.hair, found.background, found.shoulders):
        assert mask.any()
    assert not (found.skin & found.hair).any()
    assert not (found.background & (matte > 0)).any()
    assert not (found.shoulders & found.head).any()
    assert not found.skin[tuple(marks[13].round().astype(int)[::-1])], "lips are no skin"


@pytest.mark.parametrize(
    ("light", "dark", "bright"), [(0, 0.0, 0.0), (-60, 1.0, 0.0), (60, 0.0, 1.0)]
)
def test_the_line_between_lips(marks: np.ndarray, light: int, dark: float, bright: float) -> None:
    marks = marks.copy()
    marks[[13, 82, 312]] = marks[[14, 87, 317]]  # shut
    image = np.full((512, 512, 3), 120, np.uint8)
    y = round(float(marks[13, 1]))
    image[y - 1 : y + 2] = 120 + light
    found = features.lip_line(image, marks)
    width = float(np.linalg.norm(marks[234] - marks[454]))
    expected = 3 / width * abs(light) / 120
    assert found.dark == pytest.approx(dark * expected, rel=0.25, abs=1e-4)
    assert found.light == pytest.approx(bright * expected, rel=0.25, abs=1e-4)


def test_whites_have_the_colour_of_the_bright_part(marks: np.ndarray) -> None:
    image = np.full((512, 512, 3), (90, 60, 50), np.uint8)
    for eye in range(2):
        inside = hull(marks[list(RINGS[eye])], image.shape) > 0
        image[inside] = (230, 225, 220)
        x, y = marks[IRISES[eye]].round().astype(int)
        cv2.circle(image, (int(x), int(y)), 5, (40, 50, 80), -1)
    found = features.white(image, marks, 0)
    assert found is not None
    assert found[0] == pytest.approx(89.5, abs=1)
    assert features.contrast(image, marks) > 40
    assert features.contrast(np.full_like(image, 90), marks) == 0


def test_half_closed_lids_cover_half_of_the_eye(marks: np.ndarray) -> None:
    def lowered(share: float) -> np.ndarray:
        image = np.full((512, 512, 3), 230, np.uint8)
        for ring in RINGS:
            low, high = marks[list(ring), 1].min(), marks[list(ring), 1].max()
            image[: round(float(low + share * (high - low))) + 1] = 120
        return image

    frames = {f"{share}": lowered(share) for share in (0.5, 1.1)}
    found = features.covered(frames, (lowered(0), marks), "1.1")
    assert found == {"0.5": pytest.approx(0.5, abs=0.1)}
    assert features.covered({"1.1": lowered(0)}, (lowered(0), marks), "1.1") == {}


@pytest.mark.parametrize("shift", [(5, 0), (-4, 0), (0, 3)])
def test_a_moved_iris_is_found_by_its_pixels(marks: np.ndarray, shift: tuple[int, int]) -> None:
    def eyes(moved: tuple[int, int]) -> np.ndarray:
        image = np.full((512, 512, 3), 220, np.uint8)
        for iris in IRISES:
            x, y = (marks[iris].round().astype(int) + moved).tolist()
            cv2.circle(image, (x, y), 8, (70, 60, 40), -1)
            cv2.circle(image, (x, y), 3, (10, 10, 10), -1)
        return image

    found, score = features.iris_shift(eyes(shift), eyes((0, 0)), marks)
    assert tuple(found) == shift
    assert score == pytest.approx(1, abs=1e-3)
