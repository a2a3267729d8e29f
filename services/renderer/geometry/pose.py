"""From a motion frame to the mesh of a portrait in its new place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit

from talkingface.contract.motion import (
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
)
from talkingface.renderer.arrays import Float32Array
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.fitting import LIP_PAIRS
from talkingface.renderer.face.model import PARTS, FaceModel, gaze_angles, rotation_matrix
from talkingface.renderer.geometry.diffusion import smooth
from talkingface.renderer.geometry.frame import FLIP
from talkingface.renderer.geometry.portrait import BLINKS, GAZES, PreparedPortrait
from talkingface.renderer.geometry.surface import mean_landmarks
from talkingface.renderer.geometry.topology import INNER_LOWER, INNER_UPPER, SKIN, topology

FUNNEL = ARKIT_INDEX["mouthFunnel"]
JAW = ARKIT_INDEX["jawOpen"]
JAW_ROUND = 0.7
PUCKER, PURSED = ARKIT_INDEX["mouthPucker"], 0.2  # of the mouth's width, more than in the model
TONGUE_DOWN = 0.12  # face widths of the lips' opening at which the tongue lies low
TONGUE_HEIGHT, TONGUE_TIP = 0.7, 0.05  # ... what is left of its height; face widths at its tip
# Motion of an expression, along x, y and z, over that of the face model.
GAINS = {
    "mouthFrown": (1.3, 1.4, 1.0),
    "mouthPucker": (1.0, 1.3, 0.8),
    "browInnerUp": (1.4, 1.4, 1.4),
    "noseSneer": (1.5, 1.5, 1.5),
}
SOFTENED = ("browOuterUpLeft", "browOuterUpRight")
FUNNEL_PEAK = 0.85  # of what the model moves the middle of the lips
LIP_REACH = 0.08  # face widths around the mouth's line that it takes along
KEPT_UPPER = 0.6
KEPT_MOUTH = 0.15
INSIDE_SETBACK = 0.06  # face widths
SEEN_YAW = (35.0, 50.0)  # degrees of the head's whole turn: where its limit begins, and lies
TORSO_SHARE = 0.35  # of the head's translation that the shoulders follow
TORSO_ROLL = 0.12
TORSO_ZOOM = 0.5
LOOK_DOWN = np.array([ARKIT_INDEX["eyeLookDownRight"], ARKIT_INDEX["eyeLookDownLeft"]])
LOOKS_DOWN = np.isin(GAZES, LOOK_DOWN)
LIDS_BEND = 0.85  # of small closings something is lost between lashes and fold
LIDS_SINK = 0.4  # of the lids' opening that they cover when the eyes look down as far as they can
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
SMILING = np.array(
    [i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("mouthSmile", "mouthDimple", "cheek"))]
)
SMILES, FROWNS, CHEEKS = (
    np.array([ARKIT_INDEX[name + side] for side in ("Right", "Left")])
    for name in ("mouthSmile", "mouthFrown", "cheekSquint")
)
UPPER_FACE = np.array(
    [i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("brow", "cheek", "nose", "eyeSquint"))]
)


def target_pose(portrait: PreparedPortrait, motion: Float32Array) -> tuple[Float32Array, Camera]:
    """A motion frame (58,) as absolute coefficients (52,) and camera for this portrait."""
    if motion.shape != (MOTION_DIM,) or not np.isfinite(motion).all():
        raise ValueError(f"motion must be {MOTION_DIM} finite numbers")
    own, asked = portrait.fit.coefficients, np.clip(motion[:ARKIT_DIM], 0, 1)
    out = asked.copy()
    # The larger of asked and kept: asking for the portrait's own expression changes nothing.
    kept = KEPT_UPPER * own
    kept[LIDS] = own[LIDS]
    kept[MOUTH_SHAPE] = np.minimum(own[MOUTH_SHAPE], KEPT_MOUTH)
    # Corners that go down take smile and raised cheeks with them.
    kept[SMILING] *= 1 - float(asked[FROWNS].sum()) / 2
    # What a smile had raised sinks back with it.
    kept[CHEEKS] *= 1 - float(np.maximum(own[SMILES] - asked[SMILES], 0).sum()) / 2
    changed = np.concatenate([UPPER_FACE, LIDS, MOUTH_SHAPE])
    out[changed] = np.maximum(asked, kept)[changed]
    out[ASYMMETRY] = np.maximum(asked[ASYMMETRY], own[ASYMMETRY])
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
    # Nobody is shown from a side of which the photo knows nothing.
    yaw = float(start.angles[0, 1])
    angles[1] = _within_sight(float(angles[1])) + yaw - _within_sight(yaw)
    moved = motion[TRANSLATION_X : TRANSLATION_Y + 1] * start.scale[0]
    camera = Camera(
        rotation_matrix(*(float(a) for a in angles))[None],
        (start.scale / max(float(motion[DISTANCE]), 0.2)).astype(np.float32),
        (start.translation + moved).astype(np.float32),
    )
    return out, camera


def _within_sight(yaw: float) -> float:
    """Degrees, unchanged up to `SEEN_YAW[0]`, then softly held below `SEEN_YAW[1]`."""
    free, room = SEEN_YAW[0], SEEN_YAW[1] - SEEN_YAW[0]
    beyond = max(abs(yaw) - free, 0.0)
    return float(np.copysign(min(abs(yaw), free) + room * np.tanh(beyond / room), yaw))


def placed(
    portrait: PreparedPortrait, vertices: Float32Array, camera: Camera, torso: Float32Array
) -> Float32Array:
    """Unposed vertices to target pixels and depth (V, 3); the neck runs over into the shoulders."""
    out = np.empty_like(vertices)
    _place(
        vertices, camera.rotation[0], camera.scale[0], camera.translation[0],
        FaceModel.load().head_weight, _set_back(), np.asarray(torso, np.float32), portrait.source,
        out,
    )  # fmt: skip
    return out


@lru_cache(maxsize=1)
def _set_back() -> Float32Array:
    """(V,) face widths by which walls of mouth and eyes stand back.

    So they do not poke through the skin around strongly bent lips.
    """
    return (INSIDE_SETBACK * (FaceModel.load().part != SKIN)).astype(np.float32)


@njit(cache=True)
def _place(
    vertices: Float32Array,
    rotation: Float32Array,
    scale: np.float32,
    translation: Float32Array,
    follow: Float32Array,
    back: Float32Array,
    torso: Float32Array,
    source: Float32Array,
    out: Float32Array,
) -> None:
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        w, u, t = follow[v], source[v, 0], source[v, 1]
        for k in range(3):
            value = scale * (rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z)
            if k == 2:
                out[v, k] = value - scale * back[v]
                continue
            value = translation[k] + (value if k == 0 else -value)
            rest = torso[k, 0] * u + torso[k, 1] * t + torso[k, 2]
            out[v, k] = w * value + (np.float32(1.0) - w) * rest


def without_blinks(coefficients: Float32Array) -> Float32Array:
    out = coefficients.copy()
    out[BLINKS] = 0
    return out


def expression_offsets(coefficients: Float32Array) -> Float32Array:
    """Sum of the expressions (V, 3); eyeballs never move by it."""
    active = np.nonzero(coefficients)[0]
    return np.tensordot(coefficients[active], FaceModel.load().expressions[active], 1)


def posed_vertices(
    portrait: PreparedPortrait, coefficients: Float32Array
) -> tuple[Float32Array, float, float]:
    """Unposed vertices (V, 3), the lips' opening in face widths, and how far the lips changed."""
    own = without_blinks(portrait.fit.coefficients)
    moving = without_blinks(coefficients)
    # Lids follow the gaze by its change; the photo shows them where its own gaze put them.
    change = coefficients[GAZES] - own[GAZES]
    own[GAZES] = moving[GAZES] = 0
    vertices = portrait.base.copy()
    _add(vertices, np.minimum(moving, own), FaceModel.load().expressions)
    further = np.maximum(moving - own, 0)
    further[GAZES] = _visible(portrait) * np.where(LOOKS_DOWN, np.minimum(change, 0), change)
    _add(vertices, further, drawn_expressions())
    _add(vertices, lid_closing(portrait, coefficients), portrait.shut)
    model = FaceModel.load()
    pair = model.landmark_expressions[:, list(LIP_PAIRS[0]), 1]
    parting = pair[:, 0] - pair[:, 1]
    before, now = float(portrait.fit.coefficients @ parting), float(coefficients @ parting)
    if before > 0.005:
        vertices += np.clip(1 - now / before, 0, 1) * portrait.lips_shut
    lip_change = min(abs(now - before) / 0.02, 1.0)
    _sink_tongue(vertices, max(now, 0.0), lip_change)
    return vertices, max(now, 0.0), lip_change


@njit(cache=True)
def _add(vertices: Float32Array, weights: Float32Array, offsets: Float32Array) -> None:
    """Add offsets (N, V, 3) by their weights (N,) to vertices (V, 3), in place."""
    for n in range(len(weights)):
        if abs(weights[n]) > 1e-6:
            for v in range(len(vertices)):
                for k in range(3):
                    vertices[v, k] += weights[n] * offsets[n, v, k]


def _sink_tongue(vertices: Float32Array, opened: float, lip_change: float) -> None:
    """Lay the tongue down behind the lower teeth as the mouth opens, in place.

    In the face model it keeps its full height and would fill the open mouth.
    """
    tongue = FaceModel.load().part_vertices("tongue")
    place = vertices[tongue]
    share = min(opened / TONGUE_DOWN, 1.0)
    share = lip_change * share * share * (3 - 2 * share)
    front = (place[:, 2] - place[:, 2].min()) / np.ptp(place[:, 2])
    low = place[:, 1].min()
    flat = low + TONGUE_HEIGHT * (place[:, 1] - low) - TONGUE_TIP * front**2
    vertices[tongue, 1] += share * (flat - place[:, 1])


@lru_cache(maxsize=1)
def drawn_expressions() -> Float32Array:
    """The expressions (52, V, 3) as they are drawn beyond a portrait's own.

    The face model's are those of a thin head of wax: some hardly show, some come to a point.
    """
    model = FaceModel.load()
    out = model.expressions.copy()
    for name, gain in GAINS.items():
        for side in ("", "Left", "Right"):
            if name + side in ARKIT_INDEX:
                out[ARKIT_INDEX[name + side]] *= np.array(gain, np.float32)
    for name in SOFTENED:
        k = ARKIT_INDEX[name]
        soft = smooth(out[k], 60)
        out[k] = soft * (np.abs(out[k][:, 1]).max() / np.abs(soft[:, 1]).max()) * 0.85
    out[FUNNEL, :, 1] += _rounding(FUNNEL, FUNNEL_PEAK, 1.0)
    out[JAW, :, 1] += _rounding(JAW, 1.0, JAW_ROUND)
    across, height = model.mean[:, 0], model.mean[:, 1] - float(model.landmark_mean[13, 1])
    near = np.exp(-((across / 0.24) ** 4) - (height / 0.13) ** 2) * (model.mean[:, 2] > 0.4)
    near *= ~np.isin(model.part, [PARTS.index(p) for p in ("teeth_upper", "teeth_lower", "tongue")])
    out[PUCKER, :, 0] -= PURSED * near * across
    return out


def _rounding(coefficient: int, peak: float, power: float) -> Float32Array:
    """Heights (V,) that make the opening of the lips round, which in the face model has points.

    There next to nothing but the middle of the lips moves; here the lips follow (1 - x^2)^power
    from corner to corner, with `peak` of the model's motion in the middle.
    """
    model = FaceModel.load()
    marks = mean_landmarks(model.mean)
    moved = mean_landmarks(model.expressions[coefficient])[:, 1]
    across = np.abs(model.mean[:, 0])
    line = np.zeros(len(across), np.float32)
    change = np.zeros((2, len(across)), np.float32)
    for row, lip in enumerate((INNER_UPPER, INNER_LOWER)):
        half = list(lip[5:])  # from the middle to the subject's left corner
        x, y, height = marks[half, 0], moved[half], marks[half, 1]
        bow = (1 - np.minimum(x / x[-1], 1) ** 2) ** power
        wanted = y[-1] + (peak * y[0] - y[-1]) * bow
        change[row] = np.interp(across, x, wanted - y, right=0)
        line += 0.5 * np.interp(across, x, height).astype(np.float32)
    near = np.exp(-(((model.mean[:, 1] - line) / LIP_REACH) ** 2)) * (model.mean[:, 2] > 0.5)
    near *= ~np.isin(model.part, [PARTS.index(p) for p in ("teeth_upper", "teeth_lower", "tongue")])
    return (near * np.where(topology().lower_lip, change[1], change[0])).astype(np.float32)


def _visible(portrait: PreparedPortrait) -> float:
    """0 where dark glasses hide both eyes, which then had better not be moved."""
    return max(eye.visible for eye in portrait.eyes)


def lid_closing(portrait: PreparedPortrait, coefficients: Float32Array) -> Float32Array:
    """How far the upper lids went from the photo to shut, (2,): right, left eye.

    They follow a gaze that sinks: looking down they cover the eye as a blink does.
    """
    own = portrait.fit.coefficients
    blink = (coefficients[BLINKS] - own[BLINKS]) / np.maximum(1 - own[BLINKS], 1e-3)
    blink = np.clip(blink, 0, 1) ** LIDS_BEND
    sunk = np.maximum((coefficients - own)[LOOK_DOWN], 0)
    return (_visible(portrait) * (blink + (1 - blink) * LIDS_SINK * sunk)).astype(np.float32)


def torso_map(start: Camera, camera: Camera) -> Float32Array:
    """Where the shoulders go: (2, 3), portrait pixel -> target pixel."""
    # Whoever leans back takes the head further away than the shoulders.
    zoom = float(camera.scale[0] / start.scale[0]) ** TORSO_ZOOM
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


def plane_map(start: Camera, camera: Camera, depth: float) -> Float32Array:
    """Where a plane facing the portrait's camera at a depth (face widths) goes, (2, 3)."""
    turn = camera.rotation[0] @ start.rotation[0].T
    flip = np.diag(FLIP)
    linear = flip @ turn[:2, :2] @ flip * (camera.scale[0] / start.scale[0])
    moved = camera.translation[0] + camera.scale[0] * (FLIP * turn[:2, 2]) * depth
    return np.concatenate([linear, (moved - linear @ start.translation[0])[:, None]], 1).astype(
        np.float32
    )


def gaze_shift(
    portrait: PreparedPortrait, coefficients: Float32Array, eye: int
) -> tuple[Float32Array, float]:
    """How far an iris moved in the portrait's pixels (2,), and whether it did, 0..1."""
    model, start = FaceModel.load(), portrait.fit.camera

    def direction(values: Float32Array) -> Float32Array:
        pitch, yaw = np.deg2rad(gaze_angles(values)[eye])
        return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch)], np.float32)

    turned = direction(coefficients) - direction(portrait.fit.coefficients)
    flat = start.rotation[0][:2, :2] @ turned * FLIP
    shift = flat * model.eye_radius * 0.92 * start.scale[0]
    shift *= _visible(portrait)
    return shift.astype(np.float32), min(float(np.linalg.norm(shift)) / 1.5, 1.0)
