"""The 3D head: fitting it to landmarks, and moving a portrait by it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from talkingface.contract.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    DISTANCE,
    PITCH,
    ROLL,
    TRANSLATION_X,
    YAW,
    neutral,
)
from talkingface.renderer import geometry
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.fitting import fit, track
from talkingface.renderer.face.model import FaceModel, rotation_matrices, rotation_matrix
from talkingface.renderer.geometry.eyes import RINGS
from talkingface.renderer.geometry.frame_plan import plan_frame
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.geometry.rear_clearing import clearing
from talkingface.renderer.geometry.rear_extension import extrapolate
from talkingface.renderer.geometry.supersampling import landmarks_of
from talkingface.renderer.geometry.topology import topology
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN, SOLID
from talkingface.renderer.pixels.packed import channels
from talkingface.renderer.worker.frame_synthesis import WARM_UP_YAW, grey_face


def coefficients(**values: float) -> np.ndarray:
    out = np.zeros(ARKIT_DIM, np.float32)
    for name, value in values.items():
        out[ARKIT_INDEX[name]] = value
    return out


def pixels(shape: np.ndarray, angles: np.ndarray, scale: float = 220.0) -> np.ndarray:
    """Landmarks (T, 478, 3) seen by a camera, (T, 478, 2)."""
    count = len(shape)
    camera = Camera(
        rotation_matrices(angles),
        np.full(count, scale, np.float32),
        np.full((count, 2), 256, np.float32),
    )
    return camera.project(shape)[..., :2]


@pytest.fixture(scope="module")
def portrait() -> geometry.PreparedPortrait:
    """A painted mean face: skin, lips, eyes, hair, shoulders on a striped wall."""
    model = FaceModel.load()
    marks = pixels(model.landmark_mean[None], np.zeros((1, 3), np.float32))[0]
    rows = np.arange(512, dtype=np.float32)[:, None]
    wall = np.stack(
        [np.broadcast_to(90 + 60 * np.sin(rows / 9 + k), (512, 512)) for k in range(3)], -1
    )
    frame = wall.astype(np.uint8)
    background = frame.copy()
    matte = np.zeros((512, 512), np.float32)
    for image, colours in (
        (frame, ((60, 40, 30), (40, 60, 120), (210, 165, 140))),
        (matte, (1, 1, 1)),
    ):
        cv.ellipse(image, (256, 210), (130, 170), 0, 0, 360, colours[0], -1)
        cv.rectangle(image, (120, 400), (392, 511), colours[1], -1)
        cv.rectangle(image, (205, 330), (307, 430), colours[2], -1)
    outline = cv.convexHull(marks.round().astype(np.int32))
    cv.fillPoly(frame, [outline], (205, 160, 135))
    cv.fillPoly(matte, [outline], 1)
    for ring in RINGS:
        cv.fillPoly(frame, [marks[list(ring)].round().astype(np.int32)], (240, 240, 240))
    for iris in (468, 473):
        centre = tuple(int(v) for v in marks[iris].round())
        cv.circle(frame, centre, 8, (70, 50, 30), -1)
    lips = marks[
        [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
    ]
    cv.fillPoly(frame, [lips.round().astype(np.int32)], (180, 80, 85))
    return geometry.prepare(frame, marks, cv.GaussianBlur(matte, (0, 0), 1.5), background)


def motion(**values: float) -> np.ndarray:
    out = neutral(1)[0]
    columns = {"pitch": PITCH, "yaw": YAW, "roll": ROLL, "x": TRANSLATION_X, "distance": DISTANCE}
    for name, value in values.items():
        out[columns.get(name, ARKIT_INDEX.get(name, -1))] = value
    return out


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pixels (512, 512) that differ visibly."""
    return np.abs(a.astype(int) - b).max(-1) > 12


def test_rotation_follows_the_motion_frames_signs() -> None:
    nose, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (rotation_matrix(0, 20, 0) @ nose)[0] > 0  # to the viewer's right
    assert (rotation_matrix(20, 0, 0) @ nose)[1] > 0  # up
    assert (rotation_matrix(0, 0, 20) @ crown)[0] > 0  # clockwise
    angles = np.array([[11, -23, 7], [-8, 35, -14]], np.float32)
    camera = Camera(rotation_matrices(angles), np.ones(2, np.float32), np.zeros((2, 2), np.float32))
    np.testing.assert_allclose(camera.angles, angles, atol=1e-3)


def test_a_drawn_mesh_shows_the_nearer_triangle() -> None:
    points = np.array(
        [[0, 0, 1], [0, 9, 1], [9, 0, 1], [0, 0, 2], [0, 9, 2], [9, 0, 2]], np.float32
    )
    triangles = np.array([[3, 4, 5], [0, 1, 2]], np.int32)
    seen = draw_mesh(points, triangles, (10, 10), points[:, :2], cull=False)
    assert seen.ids[2, 2] == 0 and seen.depth[2, 2] == 2 and seen.ids[9, 9] == -1
    np.testing.assert_allclose(seen.values[1, 3], [3, 1], atol=1e-5)
    assert not seen.values[9, 9].any()


def test_neutral_lips_touch_and_the_mean_eye_closes() -> None:
    model = FaceModel.load()
    person = np.zeros(len(model.identity), np.float32)
    rest = model.landmarks(person, coefficients())
    assert abs(rest[13, 1] - rest[14, 1]) < 0.003
    shut = model.landmarks(person, coefficients(eyeBlinkLeft=1, eyeBlinkRight=1))
    for upper, lower in ((159, 145), (386, 374)):
        assert rest[upper, 1] - rest[lower, 1] > 0.04
        assert abs(shut[upper, 1] - shut[lower, 1]) < 0.005


def test_a_portraits_pose_and_expression_are_found_again() -> None:
    model = FaceModel.load()
    person = np.random.default_rng(3).normal(0, 0.3, len(model.identity)).astype(np.float32)
    wanted = coefficients(jawOpen=0.4, mouthSmileLeft=0.5, mouthSmileRight=0.5, browInnerUp=0.5)
    angles = np.array([[6, -17, 4]], np.float32)
    seen = pixels(model.landmarks(person, wanted)[None], angles)
    found = fit(seen[0])
    assert found.error < 0.004
    np.testing.assert_allclose(found.angles, angles[0], atol=5)  # a nod resembles a long chin
    for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight"):
        assert abs(found.coefficients[ARKIT_INDEX[name]] - wanted[ARKIT_INDEX[name]]) < 0.25, name


def test_tracking_reproduces_the_lips_opening_blinks_and_gaze() -> None:
    model = FaceModel.load()
    person = np.random.default_rng(5).normal(0, 0.3, len(model.identity)).astype(np.float32)
    time = np.arange(80) / 25
    truth = np.zeros((80, ARKIT_DIM), np.float32)
    truth[:, ARKIT_INDEX["jawOpen"]] = 0.2 + 0.2 * np.sin(2 * np.pi * 3 * time)
    truth[:, ARKIT_INDEX["mouthClose"]] = 0.1 + 0.1 * np.sin(2 * np.pi * 1.3 * time)
    blink = np.exp(-(((time - 1.6) / 0.06) ** 2))
    for side in ("Left", "Right"):
        truth[:, ARKIT_INDEX[f"eyeBlink{side}"]] = blink
    truth[:, ARKIT_INDEX["eyeLookOutLeft"]] = truth[:, ARKIT_INDEX["eyeLookInRight"]] = 0.5
    angles = np.stack([4 * np.sin(time), 8 * np.sin(1.7 * time), 2 * np.cos(time)], 1)
    shape = model.landmarks(person, truth)
    noise = np.random.default_rng(7).normal(0, 0.3, (80, 478, 2))
    seen = pixels(shape, angles.astype(np.float32)) + noise.astype(np.float32)
    found = track(seen.astype(np.float32))
    again = model.landmarks(found.identity, found.coefficients)
    opening = np.linalg.norm(shape[:, 13] - shape[:, 14], axis=1)
    fitted = np.linalg.norm(again[:, 13] - again[:, 14], axis=1)
    assert np.corrcoef(opening, fitted)[0, 1] > 0.97
    assert np.abs(opening - fitted).mean() < 0.01
    assert found.coefficients[40, ARKIT_INDEX["eyeBlinkLeft"]] > 0.75
    assert found.coefficients[:30, ARKIT_INDEX["eyeBlinkLeft"]].max() < 0.3
    gaze = found.coefficients[:, ARKIT_INDEX["eyeLookOutLeft"]]
    assert abs(float(np.median(gaze)) - 0.5) < 0.15
    turned = found.camera.angles - found.camera.angles.mean(0)
    assert np.abs(turned - (angles - angles.mean(0))).max() < 2.5
    assert found.motion().shape == (80, 60)


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 477, 2)), np.zeros((0, 478, 2)), np.full((1, 478, 2), np.nan)]
)
def test_landmarks_that_are_none_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        track(bad.astype(np.float32))


def test_the_portraits_own_motion_gives_the_photo(portrait: geometry.PreparedPortrait) -> None:
    frame = geometry.render(portrait, portrait.own_motion)
    np.testing.assert_array_equal(frame.image, portrait.frame)


def test_a_tiny_motion_changes_the_picture_only_a_little(
    portrait: geometry.PreparedPortrait,
) -> None:
    """No jump between the untouched photo and the first moved frame."""
    small = portrait.own_motion
    small[YAW] += 0.1
    image = geometry.render(portrait, small).image
    near = changed(image, portrait.frame)
    assert near.mean() < 0.02


@pytest.mark.parametrize(("name", "most"), [("jawOpen", 0.12), ("yaw", 3.0)])
def test_nothing_pops_while_a_motion_sets_in(
    portrait: geometry.PreparedPortrait, name: str, most: float
) -> None:
    """Even steps of the motion change the frame by even amounts."""
    asked = (motion(**{name: float(v)}) for v in np.linspace(0, most, 17))
    frames = [geometry.render(portrait, m).image.astype(float) for m in asked]
    steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(steps) < 2 * np.median(steps)


def test_what_is_partly_cleared_is_no_longer_shown_as_the_photo(
    portrait: geometry.PreparedPortrait,
) -> None:
    layers = portrait.layers
    cleared = clearing(portrait.fit.camera, 0.1, np.zeros(2, np.float32))
    rear = geometry.Canvas().sources(layers, cleared).rear
    jaw = np.zeros(rear.shape, bool)
    jaw.ravel()[layers.jaw_places] = True
    assert jaw.any() and channels(rear)[jaw, 3].max() <= SOLID
    np.testing.assert_array_equal(rear[~jaw], layers.rear[~jaw])


def test_hair_stays_as_photographed_while_only_the_jaw_moves(
    portrait: geometry.PreparedPortrait,
) -> None:
    asked = portrait.own_motion
    asked[ARKIT_INDEX["jawOpen"]] += 0.3
    image = geometry.render(portrait, asked).image.astype(int)
    assert changed(image, portrait.frame)[250:].any()
    assert np.abs(image - portrait.frame)[:120].max() <= 2


def test_a_plate_goes_on_beyond_the_frame() -> None:
    plate = np.zeros((512, 512, 4), np.uint8)
    plate[:, 200:300] = (120, 80, 40, 255)  # a column from the upper edge to the lower
    wide = extrapolate(plate)
    np.testing.assert_array_equal(wide[MARGIN:-MARGIN, MARGIN:-MARGIN], plate)
    opacity = wide[..., 3]
    assert (opacity[-MARGIN:, MARGIN + 250] == SOLID).all()  # the body goes on
    assert opacity[MARGIN - 10, MARGIN + 250] == SOLID  # the hair is closed above
    assert not opacity[:10].any()
    assert not opacity[:, :MARGIN].any()


def test_weighted_pixels_are_the_photos_along_the_flow(
    portrait: geometry.PreparedPortrait,
) -> None:
    frame = geometry.render(portrait, motion(yaw=12, pitch=5, jawOpen=0.4), traced=True)
    assert frame.flow is not None and frame.flow_weight is not None
    along_flow = cv.remap(portrait.frame, frame.flow, None, cv.INTER_LINEAR).astype(int)
    whole = frame.flow_weight == 255
    assert whole.mean() > 0.5
    apart = np.abs(along_flow - frame.image).max(-1)[whole]
    assert apart.mean() < 2 and np.percentile(apart, 99) < 16
    assert frame.flow_weight[frame.mask[..., 0] == 255].max() < 255  # the mouth's inside is drawn
    untraced = geometry.render(portrait, motion(yaw=12, pitch=5, jawOpen=0.4))
    assert untraced.flow is None and untraced.flow_weight is None
    np.testing.assert_array_equal(untraced.image, frame.image)


def test_an_unmoved_frame_comes_from_where_it_is(portrait: geometry.PreparedPortrait) -> None:
    frame = geometry.render(portrait, portrait.own_motion, traced=True)
    assert frame.flow is not None and frame.flow_weight is not None
    here = np.stack(np.meshgrid(np.arange(512), np.arange(512)), -1)
    np.testing.assert_array_equal(frame.flow, here)
    assert (frame.flow_weight == 255).all()


def test_pinned_borders_are_the_photos(portrait: geometry.PreparedPortrait) -> None:
    asked = motion(yaw=15, roll=12, x=0.1, distance=0.8)
    rims = (np.s_[:, 0], np.s_[0], np.s_[:, -1], np.s_[-1])  # left, top, right, bottom
    free = geometry.render(portrait, asked).image
    assert changed(free, portrait.frame)[rims[3]].any()
    pinned = geometry.render(portrait, asked, pinned=True).image
    for rim in rims:
        np.testing.assert_array_equal(pinned[rim], portrait.frame[rim])
    assert changed(pinned, portrait.frame)[150:350, 150:350].any()
    sides = geometry.render(portrait, asked, pinned=(True, False, True, False)).image
    np.testing.assert_array_equal(sides[:, 0], portrait.frame[:, 0])
    assert changed(sides, portrait.frame)[rims[3]][100:-100].any()


@pytest.mark.parametrize("yaw", [-20.0, 20.0])
def test_a_turned_head_is_neither_folded_nor_torn(
    portrait: geometry.PreparedPortrait, yaw: float
) -> None:
    frame = geometry.render(portrait, motion(yaw=yaw), traced=True)
    assert frame.flow is not None and frame.flow_weight is not None
    across, down = frame.flow[:-1, 1:] - frame.flow[:-1, :-1], np.diff(frame.flow, axis=0)[:, :-1]
    smooth = (np.linalg.norm(across, axis=2) < 3) & (np.linalg.norm(down, axis=2) < 3)
    turned = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    head = (frame.flow_weight[:-1, :-1] > 128) & smooth
    head[400:] = False
    assert (turned < 0)[head].mean() < 1e-3
    assert (turned < 1 / 3)[head].mean() < 0.02  # stretched


def test_the_hidden_side_of_a_turned_portrait_is_made_from_the_other() -> None:
    """A face turned by 30 degrees, painted in flat colours, turned back to the front."""
    model = FaceModel.load()
    marks = pixels(model.landmark_mean[None], np.array([[0, -30, 0]], np.float32))[0]
    frame = np.full((512, 512, 3), (20, 40, 90), np.uint8)
    matte = np.zeros((512, 512), np.float32)
    background = frame.copy()
    for image, colour in ((frame, (205, 160, 135)), (matte, 1)):
        cv.ellipse(image, (266, 210), (130, 170), 0, 0, 360, colour, -1)
        cv.rectangle(image, (205, 330), (307, 511), colour, -1)
        cv.fillPoly(image, [cv.convexHull(marks.round().astype(np.int32))], colour)
    portrait = geometry.prepare(frame, marks, matte, background)
    assert portrait.fit.angles[1] < -20
    np.testing.assert_array_equal(portrait.occluded_side.occluded, [1, 0])
    image = geometry.render(portrait, motion(yaw=25)).image.astype(int)
    face = image[180:330, 210:300]
    assert (
        np.abs(face - (205, 160, 135)).max(-1) > 40
    ).mean() < 0.2  # no wall in it but eyes, lips


def test_rendering_is_deterministic(portrait: geometry.PreparedPortrait) -> None:
    asked = motion(jawOpen=0.4, yaw=8, eyeBlinkLeft=0.5)
    first, second = geometry.render(portrait, asked), geometry.render(portrait, asked)
    np.testing.assert_array_equal(first.image, second.image)
    for a, b in zip(first.crops, second.crops, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)


def test_the_jaw_opens_the_mouth_and_nothing_else(portrait: geometry.PreparedPortrait) -> None:
    rest = geometry.render(portrait, motion())
    opened = geometry.render(portrait, motion(jawOpen=0.5))
    assert (opened.mask[..., 0] > 128).sum() > 300 > (rest.mask[..., 0] > 128).sum()
    ajar = geometry.render(portrait, motion(jawOpen=0.1))
    ys, _ = np.nonzero(changed(opened.image, ajar.image))
    marks = pixels(FaceModel.load().landmark_mean[None], np.zeros((1, 3), np.float32))[0]
    assert ys.min() > marks[5, 1]  # below the bridge of the nose


def test_shut_lids_hide_the_whites(portrait: geometry.PreparedPortrait) -> None:
    def white(image: np.ndarray) -> int:
        marks = pixels(FaceModel.load().landmark_mean[None], np.zeros((1, 3), np.float32))[0]
        ring = marks[list(RINGS[0])]
        (x0, y0), (x1, y1) = ring.min(0).astype(int), ring.max(0).astype(int)
        return int((image[y0:y1, x0:x1].min(-1) > 215).sum())

    rest = white(geometry.render(portrait, motion()).image)
    shut = white(geometry.render(portrait, motion(eyeBlinkRight=1, eyeBlinkLeft=1)).image)
    assert rest > 60 and shut < 0.05 * rest


def test_gaze_moves_the_iris_the_right_way(portrait: geometry.PreparedPortrait) -> None:
    def iris(image: np.ndarray) -> float:
        marks = pixels(FaceModel.load().landmark_mean[None], np.zeros((1, 3), np.float32))[0]
        ring = marks[list(RINGS[1])]
        (x0, y0), (x1, y1) = ring.min(0).astype(int) + 3, ring.max(0).astype(int) - 3
        dark = image[y0:y1, x0:x1].max(-1) < 120
        return float(np.nonzero(dark)[1].mean())

    right = iris(geometry.render(portrait, motion(eyeLookOutLeft=0.6, eyeLookInRight=0.6)).image)
    left = iris(geometry.render(portrait, motion(eyeLookInLeft=0.6, eyeLookOutRight=0.6)).image)
    assert right - left > 5


@pytest.mark.parametrize(
    ("asked", "axis", "sign"),
    [({"yaw": 10.0}, 0, 1), ({"pitch": 10.0}, 1, -1), ({"x": 0.1}, 0, 1)],
)
def test_the_face_moves_as_asked(
    portrait: geometry.PreparedPortrait, asked: dict[str, float], axis: int, sign: int
) -> None:
    def lips(image: np.ndarray) -> np.ndarray:
        red = (image[..., 0].astype(int) - image[..., 1] > 80) & (image[..., 0] > 140)
        return np.argwhere(red).mean(0)[::-1]

    moved = lips(geometry.render(portrait, motion(**asked)).image)
    rest = lips(geometry.render(portrait, motion()).image)
    assert sign * (moved - rest)[axis] > 5


def test_the_wall_stands_still(portrait: geometry.PreparedPortrait) -> None:
    image = geometry.render(portrait, motion(yaw=15, roll=8, x=0.05)).image
    assert not changed(image, portrait.frame)[:, :60].any()


def test_crops_look_at_mouth_and_eyes(portrait: geometry.PreparedPortrait) -> None:
    frame = geometry.render(portrait, motion(jawOpen=0.4, roll=10))
    assert [c.rgb.shape[0] for c in frame.crops] == [128, 64, 64]
    mouth, left, right = frame.crops
    assert mouth.mask[40:90, 30:98, 0].max() > 200
    assert left.matrix[0, 2] < right.matrix[0, 2]  # the left eye lies to the viewer's right
    assert all(np.isfinite(c.control).all() and c.control.shape == (6,) for c in frame.crops)


def test_paste_adds_only_inside_its_crop(portrait: geometry.PreparedPortrait) -> None:
    frame = geometry.render(portrait, motion(jawOpen=0.4))
    before, crop = frame.image, frame.crops[0]
    residual = np.zeros((128, 128, 4), np.float32)
    residual[..., 3] = 1
    geometry.paste(frame.canvas, crop, residual)
    np.testing.assert_array_equal(frame.image, before)
    residual[..., :3] = 0.2
    geometry.paste(frame.canvas, crop, residual)
    centre = cv.invertAffineTransform(crop.matrix) @ np.array([63.5, 63.5, 1])
    x, y = centre.round().astype(int)
    assert (frame.image[y, x].astype(int) - before[y, x] > 40).all()
    np.testing.assert_array_equal(frame.image[:150], before[:150])


def test_bad_input_is_refused(portrait: geometry.PreparedPortrait) -> None:
    with pytest.raises(ValueError, match="motion"):
        geometry.render(portrait, np.zeros(57, np.float32))
    with pytest.raises(ValueError, match="motion"):
        geometry.render(portrait, np.full(60, np.nan, np.float32))
    marks = np.zeros((478, 2), np.float32)
    with pytest.raises(ValueError, match="frame"):
        geometry.prepare(
            np.zeros((100, 100, 3), np.uint8),
            marks,
            np.zeros((512, 512), np.float32),
            portrait.frame,
        )


def test_lids_are_marked_as_drawn_only_where_they_are_seen() -> None:
    """The nose hides part of the far eye of a turned head; there is no lid over it."""
    grey, points = grey_face(WARM_UP_YAW)
    far_side = geometry.prepare(grey, points, np.ones((512, 512), np.float32), grey)
    asked = motion(yaw=WARM_UP_YAW, eyeBlinkLeft=1, eyeBlinkRight=1)
    plan = plan_frame(far_side, *geometry.target_pose(far_side, asked))
    allowed = np.zeros((512, 512), np.uint8)
    for eye, ring in zip(topology().eyes, RINGS, strict=True):
        allowed |= (draw_mesh(plan.points, eye, (512, 512)).ids >= 0).astype(np.uint8)
        rim = landmarks_of(plan.points[:, :2], ring).round().astype(np.int32)
        cv.fillConvexPoly(allowed, cv.convexHull(rim), 1)
    lashes = 9  # pixels around: soft edges, and lashes that hang
    allowed = cv.dilate(allowed, np.ones((lashes, lashes), np.uint8))
    drawn = geometry.render(far_side, asked).mask[..., 0]
    assert drawn.max() > 200 and not drawn[allowed == 0].any()
