"""A portrait moved by geometry alone: fit once, then one dense warp a frame.

Three layers, back to front: the background plate; the rear plate (hair, ears, neck, shoulders),
moved by a smooth field; the face, rasterised as a mesh whose every vertex knows where in the photo
it came from, so that nose and jaw hide what is behind them. Eyes and mouth are drawn into the holes
of that mesh at twice the resolution. Where nothing moved, the frame is the photo.

Motion coefficients are absolute for the lips (0 = closed, at rest). Of the portrait's own
expression brows, cheeks and nose keep `KEPT_UPPER`, the mouth's shape at most `KEPT_MOUTH`. Lids
and gaze count from the portrait: eyeBlink 0 is the eye as photographed, 1 is shut; eyeLook 0 is the
portrait's own gaze.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from talkingface.common.motion import (
    ARKIT_DIM,
    ARKIT_INDEX,
    ARKIT_NAMES,
    DISTANCE,
    GAZE_PITCH_RANGE,
    GAZE_YAW_RANGE,
    MOTION_DIM,
    PITCH,
    ROLL,
    TRANSLATION_X,
    TRANSLATION_Y,
    neutral,
)
from talkingface.renderer.face_model import (
    PARTS,
    SKIN_LANDMARKS,
    FaceModel,
    gaze_angles,
    rotation_matrix,
)
from talkingface.renderer.fit import LIP_PAIRS, Camera, FaceFit, fit
from talkingface.renderer.geometry_eyes import RINGS, EyeTexture, draw_eye, draw_lid, eye_texture
from talkingface.renderer.geometry_mouth import (
    LOWER_TEETH,
    UPPER_TEETH,
    MouthPaint,
    mouth_paint,
    paint_inside,
    tooth_coordinates,
)
from talkingface.renderer.geometry_plates import fill_outside, rear_plate
from talkingface.renderer.geometry_surface import (
    anatomy,
    extend,
    mean_landmarks,
    smooth,
    smoothstep,
    vertex_normals,
)
from talkingface.renderer.rasterizer import interpolate, rasterize

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Indices = NDArray[np.int32]

FRAME = 512
FIELD = 128  # resolution of the rear plate's displacement
MOUTH_CROP, EYE_CROP = 128, 64  # pixels
MOUTH_SHARE, EYE_SHARE = 0.66, 0.36  # face widths a crop spans
KEPT_UPPER = 0.6
KEPT_MOUTH = 0.15
TEETH_SHOW = 0.032  # face widths
TORSO_SHARE = 0.35  # of the head's translation that the shoulders follow
TORSO_ROLL = 0.12
SIDE_ANGLE = 58.0  # degrees from the camera's direction beyond which the photo shows no good skin
EDGE_ANGLE = 70.0  # the same where the face turns away even further
SIDE_TURN = (3.0, 15.0)  # degrees of turn over which they change to mirrored skin
AXIS_DEPTH = 0.2  # face widths: the head's upright axis before the turning point
LID_SHARE = 0.85  # of smooth skin over the stretched fold on a shut lid
LASH_BAND = 0.022  # face widths of an upper lid's rim that lashes darken
HAIR_DEPTH = 0.1  # face widths in front of the turning point where hair and ears lie on average
FLIP = np.array([1, -1], np.float32)

EYE_NAMES = (("Right", "eye_right"), ("Left", "eye_left"))
UPPER_LIDS = ((161, 160, 159, 158, 157), (388, 387, 386, 385, 384))
LOWER_LIDS = ((163, 144, 145, 153, 154), (390, 373, 374, 380, 381))
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
BLINKS = np.array([ARKIT_INDEX["eyeBlinkRight"], ARKIT_INDEX["eyeBlinkLeft"]])
GAZES = np.array([i for i, n in enumerate(ARKIT_NAMES) if n.startswith("eyeLook")])
LIDS = np.array([i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("eyeSquint", "eyeWide"))])
# Mouth coefficients that shape the lips without parting them.
MOUTH_SHAPE = np.array(
    [
        ARKIT_INDEX[n]
        for n in ARKIT_NAMES
        if n.startswith(
            ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthRoll")
        )
    ]
)
ASYMMETRY = np.array([ARKIT_INDEX[n] for n in ("mouthLeft", "mouthRight", "jawLeft", "jawRight")])
UPPER_FACE = np.array(
    [i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("brow", "cheek", "nose", "eyeSquint"))]
)
SKIN = PARTS.index("skin")


@dataclass(frozen=True)
class Crop:
    """One of the inpainter's inputs: mouth, subject's left eye, right eye."""

    matrix: Array  # (2, 3) frame pixel -> crop pixel
    rgb: Image  # (S, S, 3)
    mask: Image  # (S, S, 2): drawn instead of photographed; stretched or uncovered
    control: Array  # (6,)


@dataclass(frozen=True)
class WarpedFrame:
    """One frame as geometry alone makes it."""

    image: Image  # (512, 512, 3) RGB
    mask: Image  # (512, 512, 2), as in `Crop`
    crops: tuple[Crop, Crop, Crop]


@dataclass(frozen=True)
class Portrait:
    """Everything about a portrait that its frames share."""

    frame: Image  # (512, 512, 3) RGB
    background: Image  # (512, 512, 3)
    near_background: Image  # the same with the photo's own pixels right up to the matte
    rear: Image  # (512, 512, 4) hair, neck, shoulders, with the matte
    rear_cleared: Image  # the same behind jaw and cheeks
    fit: FaceFit
    base: Array  # (V, 3) the person without expression, exact at the landmarks
    photographed: Array  # (V, 3) the person as in the photo, unposed
    shut: Array  # (2, V, 3) from the photographed lids to shut ones: right, left eye
    lips_shut: Array  # (V, 3) what the neutral lips lack to touch
    source: Array  # (V, 2) where in the frame each vertex is
    lip_shift: Array  # (V, 2) change of `source` that keeps a parting lip's edge clean
    lid_shift: Array  # (2, V, 2) the same that keeps lashes off a closing lid
    lash: Array  # (3,) RGB of the lash line
    inward: Array  # (V, 2) change of `source` that keeps the face's edge clear of the background
    mirrored: Array  # (2, V, 2) change of `source` on the sides: viewer's left, right
    mirrored_edge: Array  # (2, V, 2) the same close to the outline only
    shade: Array  # (V,) how much darker the lips' inner sides are when they turn out
    area: Array  # (T,) signed area of the triangles in the frame
    eyes: tuple[EyeTexture, EyeTexture]
    eye_depth: Array  # (2,) camera depth of the eyes in face widths
    inside: Array  # (512, 512) 1 where the photo shows the mouth's inside
    paint: MouthPaint
    crops: tuple[Image, Image, Image]  # the photo's own mouth and eyes, aligned like `Crop.rgb`

    @property
    def own_motion(self) -> Array:
        """The motion frame (58,) that gives back the photo."""
        motion = neutral(1)[0]
        motion[:ARKIT_DIM] = self.fit.coefficients
        motion[BLINKS] = 0
        motion[GAZES] = 0
        return motion


def prepare(frame: Image, landmarks: Array, matte: Array, background: Image) -> Portrait:
    """Fit a portrait and take it apart into layers.

    :param frame: (512, 512, 3) RGB; landmarks (478, 2+) in its pixels.
    :param matte: (512, 512) opacity of the person; background (512, 512, 3) without the person.
    :raises ValueError: shapes that do not fit or landmarks that are not finite.
    """
    if frame.shape != (FRAME, FRAME, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame must be uint8 ({FRAME}, {FRAME}, 3)")
    if matte.shape != (FRAME, FRAME) or background.shape != frame.shape:
        raise ValueError("matte and background must have the frame's size")
    model, shape = FaceModel.load(), anatomy()
    fitted = fit(landmarks)
    camera, own = fitted.camera, fitted.coefficients
    rest = own.copy()
    rest[GAZES] = 0  # eyeballs are drawn, not turned; lids follow the gaze relatively
    person = model.vertices(fitted.identity, rest)
    seen = camera.project(mean_landmarks(person)[None])[0, :, :2]
    gap = (landmarks[:SKIN_LANDMARKS, :2] - seen) / camera.scale[0] * FLIP
    flat = np.concatenate([gap, np.zeros((len(gap), 1), np.float32)], 1)
    offsets = extend((flat @ camera.rotation[0]).astype(np.float32))
    outside = smooth(_outside_person(camera.project((person + offsets)[None])[0], matte, 3), 3)
    flat = np.concatenate([outside * FLIP / camera.scale[0], np.zeros((len(person), 1))], 1)
    offsets += (flat @ camera.rotation[0]).astype(np.float32)
    moved = _expression(_without_blinks(rest))
    upper_teeth = model.part_vertices("teeth_upper")
    edge = float((person + offsets)[upper_teeth, 1].min())
    lip = float(mean_landmarks(person + offsets)[13, 1])
    closed_lip = float(mean_landmarks(person + offsets - moved)[13, 1])
    offsets[upper_teeth, 1] += _teeth_edge(frame, landmarks, camera, lip, closed_lip) - edge
    base = person + offsets - moved
    source = camera.project((person + offsets)[None])[0]
    ids, weights = _raster(source, model.triangles, FRAME, FRAME)
    part = np.where(ids >= 0, shape.triangle_part[ids], SKIN)
    # Beside the cheeks the layer ends on the ears, which it never uncovers.
    edged = shape.front * shape.hard * smoothstep(0.1, 0.2, model.mean[:, 2])
    hidden = _carry(edged, model.triangles, ids, weights)
    solid, _ = _raster(source, shape.behind, FRAME, FRAME)
    behind = cv2.GaussianBlur((solid >= 0).astype(np.float32), (0, 0), 1.5)
    # The jaw's edge and the dark line under it go with the jaw.
    down = max(round(0.035 * float(camera.scale[0])), 1)
    hidden = cv2.dilate(hidden, np.ones((down, 5), np.uint8), anchor=(2, 0))
    hidden = cv2.dilate(hidden, np.ones((down, 5), np.uint8), anchor=(2, down - 1))
    rear, cleared = rear_plate(frame, matte, background, hidden, behind)
    inside = _inside_mouth(source, part)
    eyes = (
        eye_texture(frame, landmarks, 0, float(camera.scale[0])),
        eye_texture(frame, landmarks, 1, float(camera.scale[0])),
    )
    depth = [
        float((person[model.part_vertices(n)] @ camera.rotation[0].T)[:, 2].max())
        for _, n in EYE_NAMES
    ]
    portrait = Portrait(
        frame=frame,
        background=background,
        near_background=_near_background(frame, matte, background),
        rear=rear,
        rear_cleared=cleared,
        fit=fitted,
        base=base,
        photographed=person + offsets,
        shut=_shut_lids(person + offsets),
        lips_shut=_shut_lips(base),
        source=np.ascontiguousarray(source[:, :2]),
        lip_shift=_lip_shift(source, landmarks, camera),
        lid_shift=_lid_shift(source[:, :2], landmarks, camera),
        lash=_lash_colour(frame, landmarks),
        inward=smooth(_outside_person(source, matte, 7), 2),
        mirrored=_mirrored_sides(person + offsets, source, camera, frame, matte, SIDE_ANGLE),
        mirrored_edge=_mirrored_sides(person + offsets, source, camera, frame, matte, EDGE_ANGLE),
        shade=(_hidden(source) * (shape.lip > 0.25) * (model.part == SKIN)).astype(np.float32),
        area=_areas(source),
        eyes=eyes,
        eye_depth=np.array(depth, np.float32),
        inside=inside,
        paint=mouth_paint(_white(frame, eyes, landmarks), _saturation(frame, landmarks)),
        crops=(frame, frame, frame),
    )
    cut = [
        cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_AREA)
        for matrix, size in _crop_matrices(source)
    ]
    return replace(portrait, crops=(cut[0], cut[1], cut[2]))


def target_pose(portrait: Portrait, motion: Array) -> tuple[Array, Camera]:
    """A motion frame (58,) as absolute coefficients (52,) and camera for this portrait."""
    if motion.shape != (MOTION_DIM,) or not np.isfinite(motion).all():
        raise ValueError(f"motion must be {MOTION_DIM} finite numbers")
    own, asked = portrait.fit.coefficients, np.clip(motion[:ARKIT_DIM], 0, 1)
    out = asked.copy()
    # The larger of asked and kept: asking for the portrait's own expression changes nothing.
    out[UPPER_FACE] = np.maximum(asked[UPPER_FACE], KEPT_UPPER * own[UPPER_FACE])
    out[LIDS] = np.maximum(asked[LIDS], own[LIDS])
    out[ASYMMETRY] = np.maximum(asked[ASYMMETRY], own[ASYMMETRY])
    out[MOUTH_SHAPE] = np.maximum(asked[MOUTH_SHAPE], np.minimum(own[MOUTH_SHAPE], KEPT_MOUTH))
    out[BLINKS] = own[BLINKS] + (1 - own[BLINKS]) * asked[BLINKS]
    gaze = gaze_angles(own) + gaze_angles(asked)
    out[GAZES] = 0
    for k, side in enumerate(("Right", "Left")):
        pitch, yaw = gaze[k] / np.array([GAZE_PITCH_RANGE, GAZE_YAW_RANGE])
        outward = yaw if side == "Left" else -yaw
        out[ARKIT_INDEX[f"eyeLookUp{side}"]] = np.clip(pitch, 0, 1)
        out[ARKIT_INDEX[f"eyeLookDown{side}"]] = np.clip(-pitch, 0, 1)
        out[ARKIT_INDEX[f"eyeLookOut{side}"]] = np.clip(outward, 0, 1)
        out[ARKIT_INDEX[f"eyeLookIn{side}"]] = np.clip(-outward, 0, 1)
    start = portrait.fit.camera
    angles = start.angles[0] + motion[PITCH : ROLL + 1]
    moved = motion[TRANSLATION_X : TRANSLATION_Y + 1] * start.scale[0]
    camera = Camera(
        rotation_matrix(*(float(a) for a in angles))[None],
        (start.scale / max(float(motion[DISTANCE]), 0.2)).astype(np.float32),
        (start.translation + moved).astype(np.float32),
    )
    return out, camera


def render(portrait: Portrait, motion: Array) -> WarpedFrame:
    """One frame for one motion frame (58,).

    :raises ValueError: if motion has the wrong shape or is not finite.
    """
    coefficients, camera = target_pose(portrait, motion)
    return render_pose(portrait, coefficients, camera)


def render_pose(
    portrait: Portrait, coefficients: Array, camera: Camera, draw_always: bool = False
) -> WarpedFrame:
    """One frame for absolute coefficients (52,) and a camera in the portrait's frame.

    :param draw_always: draw mouth and eyes even where the photo's own could be used; for training
        on a portrait and itself.
    """
    shape = anatomy()
    start = portrait.fit.camera
    vertices, opened, lip_change = _posed_vertices(portrait, coefficients)
    normals = vertex_normals(vertices)
    closing = _closing(portrait, coefficients)
    torso = _torso_map(start, camera)
    points = _placed(portrait, vertices, camera, torso)
    source = portrait.source + lip_change * portrait.lip_shift
    source += np.tensordot(closing, portrait.lid_shift, 1)
    travel = float(np.abs(points[:, :2] - portrait.source)[shape.front > 0.5].max())
    yaw = float(camera.angles[0, 1] - start.angles[0, 1])
    turned = np.array([_step(SIDE_TURN, yaw), _step(SIDE_TURN, -yaw)], np.float32)
    moved = min(travel / 2.0, 1.0)
    worn_source = source + np.tensordot(turned, portrait.mirrored, 1) + moved * portrait.inward
    worn_source += np.tensordot(turned[::-1], portrait.mirrored_edge, 1)
    # Above the cheeks the layer has no edge of its own: it ends before it turns away.
    turning = smoothstep(0.05, 0.35, normals @ camera.rotation[0, 2])
    opacity = shape.front * (shape.hard + (1 - shape.hard) * turning)
    # Hair and neck turn with the head; what the face does is not theirs.
    still = _placed(portrait, portrait.photographed, camera, torso)
    field = _rear_field(portrait, still, camera, torso)
    image, mask = _compose(portrait, points, worn_source, opacity, field, min(travel / 6.0, 1.0))
    for eye in range(2):
        _draw_eye(
            portrait,
            image,
            mask,
            points,
            source,
            coefficients,
            camera,
            eye,
            closing[eye],
            draw_always,
        )
    _draw_mouth(portrait, image, mask, points, source, vertices, normals, lip_change, draw_always)
    if travel < 0.02 and _gaze_shift(portrait, coefficients, 0)[1] == 0 and not draw_always:
        image = portrait.frame.copy()
    controls = _controls(coefficients, opened, camera)
    crops = [
        Crop(
            matrix,
            cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_AREA),
            cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_AREA),
            control,
        )
        for (matrix, size), control in zip(_crop_matrices(points), controls, strict=True)
    ]
    return WarpedFrame(image, mask, (crops[0], crops[1], crops[2]))


def paste(image: Image, crop: Crop, residual: Array, alpha: Array) -> None:
    """Add an inpainter's answer to a frame, in place.

    :param residual: (S, S, 3) in [-1, 1], the full range of a colour; alpha (S, S) in [0, 1].
    """
    size = len(residual)
    ramp = np.clip(np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.12 * size), 0, 1)
    edge = (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
    change = residual * (alpha * edge[:, None] * edge)[..., None] * 255
    back = cv2.invertAffineTransform(crop.matrix)
    corners = _affine(back, np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float32))
    low = np.clip(np.floor(corners.min(0)), 0, FRAME).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 1, 0, FRAME).astype(int)
    if (high <= low).any():
        return
    local = crop.matrix.copy()
    local[:, 2] += local[:, :2] @ low
    span = (int(high[0] - low[0]), int(high[1] - low[1]))
    added = cv2.warpAffine(change, local, span, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    part = image[low[1] : high[1], low[0] : high[0]]
    part[:] = np.clip(part + added + 0.5, 0, 255).astype(np.uint8)


# --- posing ---------------------------------------------------------------------------------------


def _placed(portrait: Portrait, vertices: Array, camera: Camera, torso: Array) -> Array:
    """Unposed vertices to target pixels and depth (V, 3); the neck runs over into the shoulders."""
    points = camera.project(vertices[None])[0]
    follow = FaceModel.load().head_weight[:, None]
    points[:, :2] = follow * points[:, :2] + (1 - follow) * _affine(torso, portrait.source)
    return points


def _without_blinks(coefficients: Array) -> Array:
    out = coefficients.copy()
    out[BLINKS] = 0
    return out


def _expression(coefficients: Array) -> Array:
    """Sum of the expressions (V, 3); eyeballs never move by it."""
    active = np.nonzero(coefficients)[0]
    return np.tensordot(coefficients[active], FaceModel.load().expressions[active], 1)


def _posed_vertices(portrait: Portrait, coefficients: Array) -> tuple[Array, float, float]:
    """Unposed vertices (V, 3), the lips' opening in face widths, and how far the lips changed."""
    own = portrait.fit.coefficients
    moving = _without_blinks(coefficients)
    # Lids follow the gaze by its change; the photo shows them where its own gaze put them.
    moving[GAZES] = 0
    vertices = portrait.base + _expression(moving)
    change = coefficients[GAZES] - own[GAZES]
    active = np.nonzero(np.abs(change) > 1e-4)[0]
    if len(active):
        lids = FaceModel.load().expressions[GAZES[active]]
        vertices += np.tensordot(change[active], lids, 1)
    closing = _closing(portrait, coefficients)
    for k in np.nonzero(closing)[0]:
        vertices += closing[k] * portrait.shut[k]
    model = FaceModel.load()
    pair = model.landmark_expressions[:, list(LIP_PAIRS[0]), 1]
    parting = pair[:, 0] - pair[:, 1]
    before, now = float(own @ parting), float(coefficients @ parting)
    if before > 0.005:
        vertices += np.clip(1 - now / before, 0, 1) * portrait.lips_shut
    return vertices, max(now, 0.0), min(abs(now - before) / 0.02, 1.0)


def _closing(portrait: Portrait, coefficients: Array) -> Array:
    """How far the lids went from the photo to shut, (2,): right, left eye."""
    own = portrait.fit.coefficients[BLINKS]
    return np.clip((coefficients[BLINKS] - own) / np.maximum(1 - own, 1e-3), 0, 1)


def _step(limits: tuple[float, float], value: float) -> float:
    return float(smoothstep(*limits, np.array([value], np.float32))[0])


def _mirrored_sides(
    vertices: Array, source: Array, camera: Camera, frame: Image, matte: Array, limit: float
) -> Array:
    """Change of the photo coordinates on the face's sides, (2, V, 2): viewer's left, right.

    Angles about the head's upright axis, from the camera's direction.
    """
    shape = anatomy()
    facing = np.rad2deg(np.arctan2(camera.rotation[0, 2, 0], camera.rotation[0, 2, 2]))
    angle = np.rad2deg(np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS_DEPTH)) - facing
    angle = (angle + 180) % 360 - 180
    radius = np.hypot(vertices[:, 0], vertices[:, 2] - AXIS_DEPTH)
    # Not beside the eyes, where spectacles have arms; nor, where it reaches far, near the ears.
    top = 0.1 if limit >= EDGE_ANGLE else -0.03
    share = smoothstep(top, top - 0.15, vertices[:, 1])
    soft = cv2.GaussianBlur(frame, (0, 0), 0.015 * float(camera.scale[0])).astype(np.float32)

    def look(image: Array, places: Array) -> Array:
        x, y = places.round().astype(int).clip(0, FRAME - 1).T
        return image[y, x]  # type: ignore[no-any-return]

    here, heights = source[:, :2], np.linspace(-0.7, 0.2, 19)
    sides = []
    for sign in (-1.0, 1.0):
        moved = _mirrored(sign * angle, vertices[:, 1], radius, limit, source)
        # Hair or a scarf over the cheek are not to be replaced by skin; background is.
        strange = np.linalg.norm(look(soft, here) - look(soft, here + moved), axis=1)
        alike = np.maximum(smoothstep(75, 35, strange), look(matte, here) < 0.5)
        # One share for each height, for a share that varies along the cheek would make waves.
        band = (sign * angle > limit) & (sign * angle < limit + 25) & (shape.front > 0.5)
        level = np.exp(-(((heights[:, None] - vertices[band, 1]) / 0.06) ** 2)) + 1e-6
        by_height = (level @ alike[band] + 1e-3) / (level.sum(1) + 1e-3)
        sides.append(moved * (share * np.interp(vertices[:, 1], heights, by_height))[:, None])
    return np.stack(sides).astype(np.float32)


def _mirrored(angle: Array, along: Array, radius: Array, limit: float, source: Array) -> Array:
    """Change of the photo coordinates where skin turns away from the camera, (V, 2).

    The photo shows it at a grazing angle: turned towards the viewer it would be a smear of the
    outline. Beyond `limit` degrees the skin is therefore mirrored from before it.

    :param angle: (V,) degrees from the camera's direction about some axis; along: (V,) places along
        the axis; radius: (V,) distances from it.
    """
    shape = anatomy()
    size = 200
    scale = size / np.array([200.0, 1.8])
    flat = np.stack([(angle + 100) * scale[0], (along + 0.9) * scale[1]], 1)
    skin = shape.head[(FaceModel.load().part[shape.head] == SKIN).all(1)]
    ids, weights = _raster(
        np.column_stack([flat, radius]).astype(np.float32), skin, size, size, False
    )
    spread = fill_outside(_carry(source[:, :2], skin, ids, weights), (ids >= 0).astype(np.float32))
    beyond = np.maximum(angle - limit, 0)
    found = cv2.remap(
        spread,
        ((limit - beyond + 100) * scale[0]).astype(np.float32)[:, None],
        flat[:, 1].astype(np.float32)[:, None],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[:, 0]
    here = (beyond > 0) & (angle < 130)
    return np.where(here[:, None], found - source[:, :2], 0)  # type: ignore[no-any-return]


def _lid_shift(source: Array, landmarks: Array, camera: Camera) -> Array:
    """Change of the photo coordinates on upper lids, (2, V, 2), that leaves out the lashes.

    A closing lid stretches the strip between fold and rim over the eye. Its lower end, dark with
    lashes, would smear: the strip's skin is taken from above them, and the lash line drawn anew.
    """
    model = FaceModel.load()
    band = LASH_BAND * float(camera.scale[0])
    out = np.zeros((2, len(source), 2), np.float32)
    for k, ring in enumerate(RINGS):
        corners = landmarks[[ring[0], ring[8]], :2]
        along = (corners[1] - corners[0]) * (1 if corners[1, 0] > corners[0, 0] else -1)
        along = along / np.linalg.norm(along)
        up = np.array([along[1], -along[0]], np.float32)
        rim = landmarks[[*ring[8:], ring[0]], :2] - corners[0]
        order = np.argsort(rim @ along)
        place = source - corners[0]
        position = place @ along
        height = place @ up - np.interp(position, (rim @ along)[order], (rim @ up)[order])
        lid = -model.expressions[BLINKS[k], :, 1]
        share = smoothstep(0.0, 0.25, lid / lid.max())
        lifted = band * np.exp(-np.maximum(height, 0) / band) - np.minimum(height, 0)
        out[k] = (share * np.clip(lifted, 0, 2 * band))[:, None] * up
    return out


def _shut_lids(vertices: Array) -> Array:
    """What moves the photographed lids to shut ones, (2, V, 3)."""
    model = FaceModel.load()
    marks = mean_landmarks(vertices)
    out = np.zeros((2, len(vertices), 3), np.float32)
    for k in range(2):
        blink = model.expressions[BLINKS[k]]
        moved = mean_landmarks(blink)[list(UPPER_LIDS[k])]
        upper, lower = marks[list(UPPER_LIDS[k])], marks[list(LOWER_LIDS[k])]
        needed = (lower[:, 1] - upper[:, 1]) / np.minimum(moved[:, 1], -1e-3)
        order = np.argsort(upper[:, 0])
        share = np.interp(vertices[:, 0], upper[order, 0], np.clip(needed[order], 0.2, 3.0))
        out[k] = blink * (1.06 * share[:, None])
    return out


def _shut_lips(base: Array) -> Array:
    """What the lips of the neutral mesh lack to just touch, (V, 3)."""
    shape = anatomy()
    marks = mean_landmarks(base)
    upper, lower = marks[[a for a, _ in LIP_PAIRS]], marks[[b for _, b in LIP_PAIRS]]
    gap = upper[:, 1] - lower[:, 1]
    across = (upper[:, 0] + lower[:, 0]) / 2
    order = np.argsort(across)
    corner = marks[[78, 308], 0]
    xs = np.concatenate([[corner[0]], across[order], [corner[1]]])
    half = 0.5 * np.interp(base[:, 0], xs, np.concatenate([[0], gap[order], [0]]))
    out = np.zeros_like(base)
    out[:, 1] = np.where(shape.lower_lip, half, -half) * shape.lip
    return out


def _lip_shift(source: Array, landmarks: Array, camera: Camera) -> Array:
    """Change of the photo coordinates at the lips' edges, (V, 2).

    The photo of closed lips does not show their inner sides. Where a parting lip turns out such a
    side, it takes its colour from just outside the seam, not from the other lip beyond it.
    """
    shape, model = anatomy(), FaceModel.load()
    along = landmarks[308, :2] - landmarks[78, :2]
    width = float(np.linalg.norm(along))
    along = along / width
    up = np.array([along[1], -along[0]], np.float32)
    place = source[:, :2] - landmarks[78, :2]
    position, height = place @ along, place @ up
    margin = 0.008 * float(camera.scale[0])

    def rim(indices: tuple[int, ...]) -> Array:
        at = landmarks[list(indices), :2] - landmarks[78, :2]
        return np.interp(position, at @ along, at @ up)

    raise_ = np.maximum(rim(INNER_UPPER) + margin - height, 0)
    lower = np.minimum(rim(INNER_LOWER) - margin - height, 0)
    moved = np.where(shape.lower_lip, lower, raise_)
    limit = 0.06 * float(camera.scale[0])
    lips = (shape.lip > 0.25) & (model.part == SKIN)
    moved = np.clip(moved, -limit, limit) * lips
    # Inner sides at the corners would otherwise show the cheek beyond.
    inward = np.clip(position, 2 * margin, width - 2 * margin) - position
    inward = np.where(lips & _hidden(source), inward, 0)
    return (moved[:, None] * up + inward[:, None] * along).astype(np.float32)


def _hidden(source: Array) -> NDArray[np.bool_]:
    """Which vertices lie behind others in the photo, (V,)."""
    depth = np.full((FRAME, FRAME), -np.inf, np.float32)
    ids, weights = np.full((FRAME, FRAME), -1, np.int32), np.zeros((FRAME, FRAME, 2), np.float32)
    rasterize(np.ascontiguousarray(source), FaceModel.load().triangles, False, ids, weights, depth)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    return source[:, 2] < depth[y, x] - 1.5


def _torso_map(start: Camera, camera: Camera) -> Array:
    """Where the shoulders go: (2, 3), portrait pixel -> target pixel."""
    zoom = float(camera.scale[0] / start.scale[0])
    roll = np.deg2rad(TORSO_ROLL * (camera.angles[0, 2] - start.angles[0, 2]))
    c, s = np.cos(roll) * zoom, np.sin(roll) * zoom
    linear = np.array([[c, -s], [s, c]])
    moved = TORSO_SHARE * (camera.translation[0] - start.translation[0])
    # Shoulders turn about a point well below the head.
    centre = start.translation[0] + np.array([0, 1.2 * start.scale[0]])
    target = start.translation[0] + zoom * (centre - start.translation[0])
    return np.concatenate([linear, (target + moved - linear @ centre)[:, None]], 1).astype(
        np.float32
    )


def _plane_map(start: Camera, camera: Camera, depth: float) -> Array:
    """Where a plane facing the portrait's camera at a depth (face widths) goes, (2, 3)."""
    turn = camera.rotation[0] @ start.rotation[0].T
    flip = np.diag(FLIP)
    linear = flip @ turn[:2, :2] @ flip * (camera.scale[0] / start.scale[0])
    moved = camera.translation[0] + camera.scale[0] * (FLIP * turn[:2, 2]) * depth
    return np.concatenate([linear, (moved - linear @ start.translation[0])[:, None]], 1).astype(
        np.float32
    )


def _affine(matrix: Array, points: Array) -> Array:
    return points @ matrix[:, :2].T + matrix[:, 2]


# --- drawing --------------------------------------------------------------------------------------


def _raster(
    points: Array, triangles: Indices, height: int, width: int, cull: bool = True
) -> tuple[Indices, Array]:
    """Triangle ids (H, W), -1 where none, and weights (H, W, 2)."""
    ids = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), -np.inf, np.float32)
    rasterize(np.ascontiguousarray(points, np.float32), triangles, cull, ids, weights, depth)
    return ids, weights


def _carry(values: Array, triangles: Indices, ids: Indices, weights: Array) -> Array:
    """Vertex values (V,) or (V, C) at the covered pixels, 0 elsewhere."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    out = np.zeros((*ids.shape, flat.shape[1]), np.float32)
    interpolate(np.ascontiguousarray(flat), triangles, ids, weights, out)
    return out[..., 0] if values.ndim == 1 else out


def _areas(points: Array) -> Array:
    """Signed areas (T,) of the mesh's triangles in the picture, positive when facing the viewer."""
    a, b, c = (points[FaceModel.load().triangles[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    return (u[:, 1] * v[:, 0] - u[:, 0] * v[:, 1]).astype(np.float32)


@njit(cache=True, fastmath=True)
def _blend_face(
    image: Image,
    mask: Image,
    left: int,
    top: int,
    colour: Image,
    opacity: Array,
    ids: Indices,
    worn: Array,
) -> None:
    """Lay the face over the frame in place; `worn` (T,) goes to the mask's second channel.

    :param colour: (h, w, 3), opacity (h, w), ids (h, w) indices into `worn` or -1.
    """
    for y in range(opacity.shape[0]):
        for x in range(opacity.shape[1]):
            a = opacity[y, x]
            if a <= 0.0:
                continue
            for k in range(3):
                below = np.float32(image[top + y, left + x, k])
                image[top + y, left + x, k] = np.uint8(below + a * (colour[y, x, k] - below) + 0.5)
            if ids[y, x] >= 0:
                mask[top + y, left + x, 1] = np.uint8(255.0 * a * worn[ids[y, x]])


@njit(cache=True, fastmath=True)
def _blend_rear(background: Image, near: Image, rear: Image, field: Array, out: Image) -> None:
    """Rear plate (RGBA) over background; where little moves, the background is the photo's own.

    `background` is invented around the person, to be clear of strands of hair that the matte
    misses; `near` keeps the photo there, strands and all, and serves where these hardly move.
    """
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            opacity = rear[y, x, 3]
            if opacity == 255:
                for k in range(3):
                    out[y, x, k] = rear[y, x, k]
                continue
            dx, dy = field[y, x, 0] - x, field[y, x, 1] - y
            keep = np.float32(max(1.0 - np.sqrt(dx * dx + dy * dy) / 6.0, 0.0))
            a = np.float32(opacity) / np.float32(255.0)
            for k in range(3):
                below = np.float32(background[y, x, k])
                below += keep * (np.float32(near[y, x, k]) - below)
                out[y, x, k] = np.uint8(below + a * (np.float32(rear[y, x, k]) - below) + 0.5)


@njit(cache=True, fastmath=True)
def _base_field(
    hair: Array, body: Array, pivot: Array, across: Array, step: float, out: Array
) -> None:
    """The rear plate's motion without the mesh: as hair above, as shoulders below, (H, W, 2).

    :param hair: (2, 3), body (2, 3): target pixel to photo pixel.
    :param pivot: (2,) pixel of the turning point; across (2,): pixels to upright face widths.
    :param step: pixels a cell of `out`.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            x, y = j * step + (step - 1) / 2, i * step + (step - 1) / 2
            height = (x - pivot[0]) * across[0] + (y - pivot[1]) * across[1]
            t = min(max((height + 1.35) / 0.8, 0.0), 1.0)
            t = t * t * (3 - 2 * t)
            for k in range(2):
                up = hair[k, 0] * x + hair[k, 1] * y + hair[k, 2]
                low = body[k, 0] * x + body[k, 1] * y + body[k, 2]
                out[i, j, k] = t * up + (1 - t) * low


def _box(points: Array, margin: float) -> tuple[int, int, int, int]:
    """left, top, right, bottom of points (N, 2+) with a margin, inside the frame."""
    low = np.clip(np.floor(points[:, :2].min(0) - margin), 0, FRAME - 1).astype(int)
    high = np.clip(np.ceil(points[:, :2].max(0) + margin) + 1, 1, FRAME).astype(int)
    high = np.maximum(high, low + 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _rear_field(portrait: Portrait, points: Array, camera: Camera, torso: Array) -> Array:
    """Where the rear plate's pixels come from, (512, 512, 2)."""
    shape, start = anatomy(), portrait.fit.camera
    step = FRAME / FIELD
    middle = (step - 1) / 2
    hair = cv2.invertAffineTransform(_plane_map(start, camera, HAIR_DEPTH))
    body = cv2.invertAffineTransform(torso)
    roll = np.deg2rad(camera.angles[0, 2])
    across = np.array([np.sin(roll), -np.cos(roll)]) / camera.scale[0]
    base = np.empty((FIELD, FIELD, 2), np.float32)
    _base_field(hair, body, camera.translation[0], across.astype(np.float32), step, base)
    small = points.copy()
    small[:, :2] = (small[:, :2] - middle) / step
    ids, weights = _raster(small, shape.whole, FIELD, FIELD)
    carried = _carry(
        np.concatenate([portrait.source, (shape.front * shape.hard)[:, None]], 1),
        shape.whole,
        ids,
        weights,
    )
    covered = ids >= 0
    known = (covered * (1 - carried[..., 2])).astype(np.float32)
    known *= cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8))
    rest = np.where(covered[..., None], carried[..., :2] - base, 0).astype(np.float32)
    filled = fill_outside(rest, known)
    away = cv2.distanceTransform((~covered).astype(np.uint8), cv2.DIST_L2, 3)
    filled *= np.exp(-away / (0.35 * camera.scale[0] / step))[..., None]
    filled = cv2.GaussianBlur(filled, (0, 0), 1.2)
    return cv2.resize(  # type: ignore[no-any-return]
        (base + filled).astype(np.float32), (FRAME, FRAME), interpolation=cv2.INTER_LINEAR
    )


def _compose(
    portrait: Portrait,
    points: Array,
    source: Array,
    front: Array,
    field: Array,
    cleared: float,
) -> tuple[Image, Image]:
    """Background, rear plate and face: (512, 512, 3), and the mask (512, 512, 2).

    :param front: (V,) opacity of the face.
    :param cleared: how far the rear plate has lost jaw and cheeks, 0..1.
    """
    shape = anatomy()
    plate = cv2.addWeighted(portrait.rear, 1 - cleared, portrait.rear_cleared, cleared, 0)
    rear = cv2.remap(plate, field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    image = np.empty_like(portrait.frame)
    _blend_rear(portrait.background, portrait.near_background, rear, field, image)
    mask = np.zeros((FRAME, FRAME, 2), np.uint8)

    facing = shape.head
    left, top, right, bottom = _box(points[shape.head_vertices], 4)
    local = points - np.array([left, top, 0], np.float32)
    ids, weights = _raster(local, facing, bottom - top, right - left)
    flow = _carry(source, facing, ids, weights)
    _skirt(flow, ids, 4)
    shown = _carry(front, facing, ids, weights)
    opacity = cv2.GaussianBlur(cv2.dilate(shown, np.ones((3, 3), np.uint8)), (0, 0), 1.0)
    colour = cv2.remap(
        portrait.frame, flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    _blend_face(image, mask, left, top, colour, opacity, ids, _worn(portrait, points))
    return image, mask


def _worn(portrait: Portrait, points: Array) -> Array:
    """How little the photo knows of each front triangle, 0..1: stretched, or hidden there."""
    grown = _areas(points) / np.maximum(portrait.area, 1e-3)
    worn = np.where(portrait.area <= 0, 1.0, smoothstep(1.8, 4.0, grown))
    return worn[anatomy().head_index].astype(np.float32)


@njit(cache=True, fastmath=True)
def _skirt(flow: Array, ids: Indices, reach: int) -> None:
    """Continue a flow (H, W, 2) a few pixels beyond its edge in place, so that edges can be soft.

    The displacement is what continues, taken from the nearest covered pixel of the row or column.
    """
    height, width = ids.shape
    for y in range(height):
        for x in range(width):
            if ids[y, x] >= 0:
                continue
            best = reach + 1
            for d in range(-reach, reach + 1):
                if abs(d) < best and 0 <= x + d < width and ids[y, x + d] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y, x + d, 0] - d
                    flow[y, x, 1] = flow[y, x + d, 1]
                if abs(d) < best and 0 <= y + d < height and ids[y + d, x] >= 0:
                    best = abs(d)
                    flow[y, x, 0] = flow[y + d, x, 0]
                    flow[y, x, 1] = flow[y + d, x, 1] - d


def _gaze_shift(portrait: Portrait, coefficients: Array, eye: int) -> tuple[Array, float]:
    """How far an iris moved in the portrait's pixels (2,), and whether it did, 0..1."""
    model, start = FaceModel.load(), portrait.fit.camera

    def direction(values: Array) -> Array:
        pitch, yaw = np.deg2rad(gaze_angles(values)[eye])
        return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch)], np.float32)

    turned = direction(coefficients) - direction(portrait.fit.coefficients)
    flat = start.rotation[0][:2, :2] @ turned * FLIP
    shift = flat * model.eye_radius * 0.92 * start.scale[0]
    return shift.astype(np.float32), float(min(np.linalg.norm(shift) / 1.5, 1.0))


def _draw_eye(
    portrait: Portrait,
    image: Image,
    mask: Image,
    points: Array,
    source: Array,
    coefficients: Array,
    camera: Camera,
    eye: int,
    closing: float,
    draw_always: bool,
) -> None:
    """Draw one eye and its lids into the frame, in place."""
    shape = anatomy()
    ring = mean_landmarks(points)[list(RINGS[eye])][:, :2]
    left, top, right, bottom = _box(ring, 6 if closing == 0 else 0.12 * float(camera.scale[0]))
    width, height = right - left, bottom - top
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    triangles = shape.eyes[eye]
    ids, weights = _raster(local, triangles, 2 * height, 2 * width)
    within = np.zeros((2 * height, 2 * width), np.uint8)
    outline = np.round((ring - np.array([left, top])) * 2 + 0.5).astype(np.int32)
    cv2.fillPoly(within, [cv2.convexHull(outline)], 1)
    within = cv2.dilate(within, np.ones((5, 5), np.uint8))
    hole = (ids < 0) & (within > 0)
    if not hole.any():
        opening = np.zeros((height, width), np.float32)
    else:
        opening = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    flow = _carry(source, triangles, ids, weights)
    skin = cv2.remap(portrait.frame, flow, None, cv2.INTER_CUBIC).astype(np.float32)
    ys, xs = np.mgrid[: 2 * height, : 2 * width].astype(np.float32)
    pixels = np.stack([xs / 2 - 0.25 + left, ys / 2 - 0.25 + top], -1)
    back = cv2.invertAffineTransform(
        _plane_map(portrait.fit.camera, camera, float(portrait.eye_depth[eye]))
    )
    shift, moved = _gaze_shift(portrait, coefficients, eye)
    where = _affine(back, pixels).astype(np.float32)
    colours, invented = draw_eye(portrait.eyes[eye], where, shift, 1.0 if draw_always else moved)
    if closing > 0:
        plate, share = draw_lid(portrait.eyes[eye], where)
        share = (LID_SHARE * closing * share * (ids >= 0))[..., None]
        skin += share * (plate - skin)
    drawn = np.where(hole[..., None], colours, skin)
    if closing > 0:
        line = _lash_line(outline, hole.shape, float(camera.scale[0]) * 2)
        new_skin = np.maximum(line, share[..., 0])
        opening = np.maximum(
            opening, cv2.resize(new_skin, (width, height), interpolation=cv2.INTER_AREA) > 0.02
        ).astype(np.float32)
        drawn += (0.85 * closing * line)[..., None] * (portrait.lash - drawn)
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    # Only the eye and the lids' very edge are taken from here; skin around is already in place.
    take = cv2.dilate(opening, np.ones((3, 3), np.uint8))[..., None]
    take = (
        take
        * (cv2.resize((hole | (ids >= 0)).astype(np.float32), (width, height)) > 0.99)[..., None]
    )
    place = image[top:bottom, left:right]
    place[:] = np.clip(place * (1 - take) + small * take + 0.5, 0, 255).astype(np.uint8)
    new = cv2.resize(
        (invented * hole).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    mask[top:bottom, left:right, 0] = np.maximum(
        mask[top:bottom, left:right, 0], (255 * np.clip(new, 0, 1)).astype(np.uint8)
    )


def _lash_line(ring: Indices, size: tuple[int, int], face: float) -> Array:
    """Opacity (H, W) of the lashes on an upper lid; `face` = face width in these pixels."""
    upper = ring[10:]  # without the inner corner, where no lashes grow
    line = np.zeros(size, np.uint8)
    thick = max(round(0.013 * face), 1)
    cv2.polylines(line, [upper * 8], False, 255, thick, cv2.LINE_AA, shift=3)
    return cv2.GaussianBlur(line, (0, 0), 0.005 * face).astype(np.float32) / 255


def _draw_mouth(
    portrait: Portrait,
    image: Image,
    mask: Image,
    points: Array,
    source: Array,
    vertices: Array,
    normals: Array,
    lip_change: float,
    draw_always: bool,
) -> None:
    """Draw the mouth's inside with the lips over it into the frame, in place."""
    shape = anatomy()
    left, top, right, bottom = _box(points[shape.lip > 0.3], 5)
    width, height = right - left, bottom - top
    local = (points[:, :2] - np.array([left, top])) * 2 + 0.5
    local = np.concatenate([local, points[:, 2:]], 1).astype(np.float32)
    ids, weights = _raster(local, shape.mouth, 2 * height, 2 * width)
    part = np.where(ids >= 0, _mouth_parts()[ids], 255).astype(np.uint8)
    hole = (part != SKIN) & (part != 255)
    if not hole.any():
        return
    lips = float(np.median(vertices[shape.lip > 0.8, 2]))
    depth = lips - vertices[:, 2] - 0.05
    values = np.concatenate(
        [source, _teeth(), depth[:, None], normals[:, 1:2], portrait.shade[:, None]], 1
    ).astype(np.float32)
    carried = _carry(values, shape.mouth, ids, weights)
    reach = max(int(0.05 * portrait.fit.camera.scale[0]) * 2 + 1, 3)
    open_share = cv2.blur(hole.astype(np.float32), (reach, reach))
    openness = smoothstep(0.15, 0.95, open_share)
    flow = np.ascontiguousarray(carried[..., :2])
    photo = cv2.remap(portrait.frame, flow, None, cv2.INTER_CUBIC).astype(np.float32)
    photo *= 1 - 0.6 * lip_change * (carried[..., 6] * ~hole)[..., None]
    drawn = photo.copy()
    paint = portrait.paint
    paint_inside(
        part, np.ascontiguousarray(carried[..., 2:6]), openness, paint.tooth, paint.gum,
        paint.tongue, paint.cavity, np.stack([UPPER_TEETH, LOWER_TEETH]), drawn,
    )  # fmt: skip
    known = cv2.remap(portrait.inside, flow, None, cv2.INTER_LINEAR) * hole
    # Lips that close put the photo's teeth in the dark.
    photo *= 1 - (0.7 * lip_change * known * (1 - openness))[..., None]
    if draw_always:
        known = np.zeros_like(known)
    drawn = np.where(
        hole[..., None], drawn * (1 - known[..., None]) + photo * known[..., None], photo
    )
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    opening = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    solid = cv2.resize(
        (part != 255).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    take = (cv2.dilate(opening, np.ones((3, 3), np.uint8)) * (solid > 0.99))[..., None]
    place = image[top:bottom, left:right]
    place[:] = np.clip(place * (1 - take) + small * take + 0.5, 0, 255).astype(np.uint8)
    new = cv2.resize(
        (hole * (1 - known)).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    mask[top:bottom, left:right, 0] = np.maximum(
        mask[top:bottom, left:right, 0], (255 * np.clip(new, 0, 1)).astype(np.uint8)
    )


@lru_cache(maxsize=1)
def _mouth_parts() -> NDArray[np.uint8]:
    """Part of each of `anatomy().mouth`'s triangles."""
    model, shape = FaceModel.load(), anatomy()
    return model.part[shape.mouth].max(1)


@lru_cache(maxsize=1)
def _teeth() -> Array:
    return tooth_coordinates(FaceModel.load())


# --- measuring the photo --------------------------------------------------------------------------


def _teeth_edge(
    frame: Image, landmarks: Array, camera: Camera, lip: float, closed_lip: float
) -> float:
    """Height of the upper front teeth's biting edge in the head's frame.

    Where the photo shows teeth, their lower end under the upper lip (`lip` = its height); else a
    little below the lip of the neutral face (`closed_lip`).
    """
    upper, lower = landmarks[13, :2], landmarks[14, :2]
    opening = float(np.linalg.norm(lower - upper)) / float(camera.scale[0])
    if opening < 0.025:
        return closed_lip - TEETH_SHOW
    share = np.linspace(0, 1, 24)
    across = (landmarks[308, :2] - landmarks[78, :2]) * 0.06
    columns = [
        upper + share[:, None] * (lower - upper) + shift * across for shift in (-1.0, 0.0, 1.0)
    ]
    places = np.stack(columns, 1).astype(np.float32)
    seen = cv2.remap(frame, places[..., 0], places[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    luma = np.median(seen @ np.array([0.299, 0.587, 0.114], np.float32), 1)
    bright = luma > 0.62 * luma[:16].max()
    first = int(np.argmax(bright))
    end = first + int(np.argmin(np.append(bright[first:], False)))
    depth = min((end / 23) * opening, 0.08)
    return lip - max(depth, TEETH_SHOW)


def _outside_person(source: Array, matte: Array, inset: int) -> Array:
    """What brings the sides of face and jaw back inside the person's outline, (V, 2) pixels.

    Landmarks stop short of the outline; where the mesh bulges over it, the face would carry a seam
    of background along.
    """
    shape = anatomy()
    person = cv2.erode((matte > 0.5).astype(np.uint8), np.ones((inset, inset), np.uint8))
    person[-1] = 1  # never empty
    _, labels = cv2.distanceTransformWithLabels(
        1 - person, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros((labels.max() + 1, 2), np.float32)
    ys, xs = np.nonzero(person)
    places[labels[ys, xs]] = np.stack([xs, ys], 1)
    x, y = source[:, :2].round().astype(int).clip(0, FRAME - 1).T
    moved = places[labels[y, x]] - np.stack([x, y], 1)
    limit = 0.08 * float(np.ptp(source[shape.front > 0.5, 0]))
    side = (shape.front * shape.hard > 0.02) & (person[y, x] == 0)
    moved = np.where((side & (np.linalg.norm(moved, axis=1) < limit))[:, None], moved, 0)
    return moved.astype(np.float32)  # type: ignore[no-any-return]


def _near_background(frame: Image, matte: Array, background: Image) -> Image:
    share = cv2.dilate(smoothstep(0.02, 0.3, matte), np.ones((3, 3), np.uint8))[..., None]
    return (frame * (1 - share) + background * share + 0.5).astype(np.uint8)  # type: ignore[no-any-return]


def _inside_mouth(source: Array, part: NDArray[np.uint8]) -> Array:
    """Soft mask (512, 512) of the mouth's inside in the photo."""
    shape = anatomy()
    left, top, right, bottom = _box(source[shape.lip > 0.3], 2)
    inner = np.zeros((FRAME, FRAME), np.uint8)
    inner[top:bottom, left:right] = part[top:bottom, left:right] != SKIN
    inner = cv2.erode(inner, np.ones((3, 3), np.uint8))
    return cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 0.8) * inner  # type: ignore[no-any-return]


def _white(frame: Image, eyes: tuple[EyeTexture, EyeTexture], landmarks: Array) -> Array:
    """What white looks like in the photo's light, RGB, from the eyes and the cheeks."""
    cheeks = landmarks[[50, 280, 205, 425, 101, 330], :2].round().astype(int).clip(2, FRAME - 3)
    skin = np.median([frame[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in cheeks], 0)
    weight = np.array([0.299, 0.587, 0.114])
    eye = np.max([e.white for e in eyes], 0)
    luma = float(np.clip(1.15 * eye @ weight, 1.0 * skin @ weight, 235))
    tint = eye / max(float(eye @ weight), 1.0)
    tint = 0.35 * tint + 0.65  # the sclera's own tint is not all the light's
    return np.clip(luma * tint, 0, 255).astype(np.float32)


def _saturation(frame: Image, landmarks: Array) -> float:
    """0 in a photo without colours, 1 in an ordinary one, by the cheeks' skin."""
    cheeks = landmarks[[50, 280, 205, 425], :2].round().astype(int).clip(0, FRAME - 1)
    skin = frame[cheeks[:, 1], cheeks[:, 0]].astype(np.float32)
    return float(np.clip(np.median(np.ptp(skin, 1) / np.maximum(skin.max(1), 1)) / 0.18, 0, 1))


def _lash_colour(frame: Image, landmarks: Array) -> Array:
    """The dark of the upper lid rims, RGB."""
    rims = landmarks[[i for ring in RINGS for i in ring[9:]], :2].round().astype(int)
    rims = rims.clip(2, FRAME - 3)
    around = np.stack([frame[y - 2 : y + 3, x - 1 : x + 2].reshape(-1, 3) for x, y in rims])
    luma = around @ np.array([0.299, 0.587, 0.114])
    darkest = np.take_along_axis(around, luma.argmin(1)[:, None, None], 1)[:, 0]
    return np.median(darkest, 0).astype(np.float32)


def _crop_matrices(points: Array) -> list[tuple[Array, int]]:
    """Similarities frame -> crop, upright by the eyes: mouth, subject's left eye, right eye."""
    marks = mean_landmarks(points)[:, :2]
    across = (marks[263] + marks[362] - marks[33] - marks[133]) / 2
    angle = float(np.arctan2(across[1], across[0]))
    # Eye distance shrinks as the head turns, face height as it nods: take the larger.
    width = max(
        float(np.linalg.norm(across)) / 0.43, float(np.linalg.norm(marks[152] - marks[168])) / 0.78
    )
    centres = (
        (marks[list(INNER_UPPER)].mean(0) + marks[list(INNER_LOWER)].mean(0)) / 2,
        marks[list(RINGS[1])].mean(0),
        marks[list(RINGS[0])].mean(0),
    )
    out = []
    for centre, share, size in zip(
        centres, (MOUTH_SHARE, EYE_SHARE, EYE_SHARE), (MOUTH_CROP, EYE_CROP, EYE_CROP), strict=True
    ):
        zoom = size / (share * width)
        c, s = np.cos(angle) * zoom, np.sin(angle) * zoom
        linear = np.array([[c, s], [-s, c]])
        moved = (size - 1) / 2 - linear @ centre
        out.append((np.concatenate([linear, moved[:, None]], 1).astype(np.float32), size))
    return out


def _controls(coefficients: Array, opened: float, camera: Camera) -> tuple[Array, Array, Array]:
    """Numbers that tell the inpainter what the crops ought to show."""

    def value(name: str) -> float:
        return float(coefficients[ARKIT_INDEX[name]])

    smile = (value("mouthSmileLeft") + value("mouthSmileRight")) / 2
    rounded = value("mouthFunnel") + value("mouthPucker")
    yaw = float(camera.angles[0, 1]) / 45
    mouth = [opened / 0.35, value("jawOpen"), value("mouthClose"), rounded, smile, yaw]
    eyes = [
        [
            value(f"eyeBlink{side}"),
            value(f"eyeLookDown{side}"),
            value(f"eyeLookIn{side}") - value(f"eyeLookOut{side}"),
            value(f"eyeLookUp{side}"),
            value(f"eyeSquint{side}"),
            value(f"eyeWide{side}"),
        ]
        for side in ("Left", "Right")
    ]
    return (
        np.array(mouth, np.float32),
        np.array(eyes[0], np.float32),
        np.array(eyes[1], np.float32),
    )
