"""How a face moves in video, from landmarks alone: sizes, spectra, relation to the speech.

Landmarks are MediaPipe's face mesh with irises (T, 478, 3) in pixels, at `MOTION_FPS`, as they are
found in the frame, not turned to the front. Only the angles of the head come from a rigid fit
(Kabsch 1976) of points that no expression moves. Lengths are percent of the face's own size, so
that faces of all sizes, rendered or real, are measured alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_DIM
from talkingface.contract.rates import MOTION_FPS
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.evaluation.curves import (
    Curve,
    band_passed,
    correlation,
    shifted,
)

# Eyes' corners, bridge and sides of the nose: points that hardly move when a face speaks.
RIGID = [33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 98, 327]
CHEEKS, CROWN, CHIN = (234, 454), 10, 152
UPPER_LIP, LOWER_LIP, LIP_TOP, LIP_CORNERS = 13, 14, 0, (61, 291)
NOSE_TIP, NOSE_FOOT, NOSE_BRIDGE = 1, 2, 168
INNER_BROWS, BROWS, LID_TOPS, LID_FEET = (55, 285), (105, 334), (159, 386), (145, 374)
EYES = ((33, 133), (362, 263))
IRISES = (468, 473)

WINDOW_SECONDS = 10.0  # clips are cut into equal parts of about this length
BANDS = ((0.05, 0.3), (0.3, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0))  # Hz
LOUDNESS_BAND = (0.3, 2.0)  # Hz
FLOOR = 50.0  # dB below the loudest frame, the least level
POOLED_LAGS = (0, 1, 2)  # frames by which a face may follow the speech, one lag for all clips
CLIP_LAGS = range(-8, 9)  # frames, a lag for each clip


class Head(NamedTuple):
    """Pose and size of the head in each frame."""

    angles: Curve  # (T, 3) pitch, yaw, roll in degrees
    size: Curve  # (T,) pixels a face width


class Feature(NamedTuple):
    """One of the measured curves."""

    title: str
    unit: str
    measure: Callable[[Curve, Head], Curve]


@lru_cache(maxsize=1)
def _reference() -> Curve:
    """(478, 3) landmarks of the neutral mean face in face widths, x right, y down, z away."""
    model = FaceModel.load()
    neutral = np.zeros(ARKIT_DIM, np.float32)
    points = model.landmarks(np.zeros(len(model.identity), np.float32), neutral).astype(float)
    points = points * np.array([1.0, -1.0, -1.0])
    points -= points[RIGID].mean(axis=0)
    return np.asarray(points / np.linalg.norm(points[CHEEKS[0]] - points[CHEEKS[1]]))


def rigid(landmarks: Float32Array) -> tuple[Curve, Curve, Curve]:
    """Rotations (T, 3, 3) from the head's frame to the camera's, scales (T,) in pixels a face
    width and positions (T, 3) of the centre of the rigid points."""
    points = np.asarray(landmarks, float)[:, RIGID]
    centre = points.mean(axis=1)
    at, to = points - centre[:, None], _reference()[RIGID]
    u, s, vt = np.linalg.svd(np.einsum("tni,nj->tij", at, to))
    flip = np.ones((len(points), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    turns = (u * flip[:, None, :]) @ vt
    return turns, (s * flip).sum(axis=1) / (to**2).sum(), centre


def in_head(landmarks: Float32Array, points: Sequence[int]) -> Curve:
    """Landmarks in the head's own frame, turned to the front: (T, n, 3) face widths."""
    turns, scale, centre = rigid(landmarks)
    there = np.asarray(landmarks, float)[:, list(points)] - centre[:, None]
    return np.asarray(np.einsum("tni,tij->tnj", there, turns) / scale[:, None, None])


def head(landmarks: Float32Array) -> Head:
    """Angles and size of the head in each frame."""
    turns, scale, _ = rigid(landmarks)
    yaw, pitch, roll = Rotation.from_matrix(turns).as_euler("YXZ", degrees=True).T
    return Head(np.stack([pitch, yaw, roll], axis=1), scale)


def _apart(points: Curve, pair: tuple[int, int]) -> Curve:
    return np.asarray(np.linalg.norm(points[:, pair[0], :2] - points[:, pair[1], :2], axis=1))


def _height(points: Curve) -> Curve:
    return _apart(points, (CROWN, CHIN))


def _width(points: Curve) -> Curve:
    return _apart(points, CHEEKS)


def _level(points: Curve, indices: Sequence[int]) -> Curve:
    """Mean height in the frame, downwards, pixels."""
    return np.asarray(points[:, list(indices), 1].mean(axis=1))


def _lids(points: Curve, _: Head) -> Curve:
    open_ = [
        _apart(points, (top, foot)) / _apart(points, eye)
        for top, foot, eye in zip(LID_TOPS, LID_FEET, EYES, strict=True)
    ]
    return np.asarray(100 * np.mean(open_, axis=0))


def _irises(points: Curve, _: Head) -> Curve:
    aside = []
    for iris, (left, right) in zip(IRISES, EYES, strict=True):
        eye = points[:, right, :2] - points[:, left, :2]
        middle = (points[:, right, :2] + points[:, left, :2]) / 2
        aside.append(((points[:, iris, :2] - middle) * eye).sum(axis=1) / (eye**2).sum(axis=1))
    return np.asarray(100 * np.mean(aside, axis=0))


FEATURES: dict[str, Feature] = {
    "opening": Feature(
        "inner lip opening", "% of face height",
        lambda p, _: 100 * _apart(p, (UPPER_LIP, LOWER_LIP)) / _height(p),
    ),
    "width": Feature(
        "mouth width", "% of face width", lambda p, _: 100 * _apart(p, LIP_CORNERS) / _width(p)
    ),
    "corners": Feature(
        "corner height above lip line", "% of face height",
        lambda p, _: 100
        * (_level(p, (UPPER_LIP, LOWER_LIP)) - _level(p, LIP_CORNERS)) / _height(p),
    ),
    "upper lip": Feature(
        "upper lip to nose", "% of face height",
        lambda p, _: 100 * _apart(p, (LIP_TOP, NOSE_FOOT)) / _height(p),
    ),
    # Over the clip's median, since a nod shortens the upper face more than the chin's distance.
    "chin": Feature(
        "chin to nose", "% of upper face height",
        lambda p, _: 100 * _apart(p, (CHIN, NOSE_TIP)) / np.median(_apart(p, (CROWN, NOSE_FOOT))),
    ),
    "brow": Feature(
        "brow height over lid", "% of face height",
        lambda p, _: 100 * (_level(p, LID_TOPS) - _level(p, BROWS)) / _height(p),
    ),
    "brow over eye corners": Feature(
        "brow height over eye corners (not moved by blinks)", "% of face height",
        lambda p, _: 100 * (_level(p, [i for eye in EYES for i in eye]) - _level(p, BROWS))
        / _height(p),
    ),
    "inner brows": Feature(
        "inner brow distance", "% of face width",
        lambda p, _: 100 * _apart(p, INNER_BROWS) / _width(p),
    ),
    "lids": Feature("lid opening", "% of eye width", _lids),
    "irises": Feature("iris sideways", "% of eye width", _irises),
    "yaw": Feature("yaw", "degrees", lambda _, h: h.angles[:, 1]),
    "pitch": Feature("pitch", "degrees", lambda _, h: h.angles[:, 0]),
    "roll": Feature("roll", "degrees", lambda _, h: h.angles[:, 2]),
    "sideways": Feature(
        "head sideways", "% of face width",
        lambda p, _: 100 * p[:, NOSE_BRIDGE, 0] / np.median(_width(p)),
    ),
    "up and down": Feature(
        "head up-down", "% of face width",
        lambda p, _: 100 * p[:, NOSE_BRIDGE, 1] / np.median(_width(p)),
    ),
    "size": Feature("size of face", "log %", lambda _, h: np.asarray(100 * np.log(h.size), float)),
}  # fmt: skip


def measured(landmarks: Float32Array) -> dict[str, Curve]:
    """Every feature of a clip: (T,) each."""
    points, pose = np.asarray(landmarks, float), head(landmarks)
    return {
        name: np.asarray(feature.measure(points, pose), float) for name, feature in FEATURES.items()
    }


def windows(track: Curve, seconds: float = WINDOW_SECONDS) -> list[Curve]:
    """A clip cut into equal parts of about `seconds`; a shorter one is one part."""
    return np.array_split(track, max(1, round(len(track) / MOTION_FPS / seconds)))


def deviation(tracks: Sequence[Curve]) -> float:
    """Standard deviation within windows, mean of a clip's windows, then of the clips."""
    return float(np.mean([np.mean([part.std() for part in windows(track)]) for track in tracks]))


def bands(tracks: Sequence[Curve]) -> list[float]:
    """Standard deviation of each of `BANDS`, mean of the clips."""
    return [
        float(np.mean([band_passed(track - track[0], band).std() for track in tracks]))
        for band in BANDS
    ]


def step(tracks: Sequence[Curve]) -> float:
    """Mean absolute change from frame to frame, mean of the clips."""
    return float(np.mean([np.abs(np.diff(track)).mean() for track in tracks]))


def jerk(tracks: Sequence[Curve]) -> float:
    """Root mean square of the third difference, in the feature's unit a frame^3, over clips."""
    return float(np.sqrt(np.mean([(np.diff(track, 3) ** 2).mean() for track in tracks])))


def loudness(energy: Curve) -> Curve:
    """Level in dB of a root mean square, no lower than `FLOOR` below the loudest frame."""
    level = 20 * np.log10(energy + 1e-7)
    return np.asarray(np.maximum(level, level.max() - FLOOR))


def with_loudness(
    tracks: Sequence[Curve], levels: Sequence[Curve], band: tuple[float, float] = LOUDNESS_BAND
) -> tuple[float, int]:
    """Signed correlation of all clips end to end at the lag of 0 to 80 ms at which it is largest,
    and the lag in frames.

    :param levels: `loudness` of each clip on the video clock
    """
    turned = [band_passed(track - track[0], band) for track in tracks]
    loud = [band_passed(level, band) for level in levels]
    found = {}
    for lag in POOLED_LAGS:
        parts = [
            (a[lag:count], b[: count - lag])
            for a, b in zip(turned, loud, strict=True)
            for count in [min(len(a), len(b))]
        ]
        found[lag] = correlation(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    best = max(found, key=lambda lag: abs(found[lag]))
    return found[best], best


def largest_with_loudness(
    tracks: Sequence[Curve], levels: Sequence[Curve], band: tuple[float, float] = LOUDNESS_BAND
) -> tuple[float, float]:
    """Mean over clips of each clip's largest signed correlation, and of its lag in frames
    (+ = the face is later)."""
    best = []
    for track, level in zip(tracks, levels, strict=True):
        turned = band_passed(track - track[0], band)
        loud = band_passed(level, band)
        found = [(correlation(shifted(loud, lag, len(turned)), turned), lag) for lag in CLIP_LAGS]
        best.append(max(found, key=lambda one: abs(one[0])))
    r, lag = np.mean(best, axis=0)
    return float(r), float(lag)
