"""The matte of the person and the background behind the person."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talkingface.renderer.analysis import completion
from talkingface.renderer.analysis.tflite_graph import TfliteGraph
from talkingface.renderer.arrays import BoolArray, Float32Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.opencv import cv

_INPUT = 256  # side of the network's input, pixels
_PLATE = 256  # working size of the background, pixels
# By eye, as all that follows. Colours in levels 0..255, reaches in pixels.
_MATTE_EMPTY, _MATTE_RANGE = 0.08, 0.84  # of the network's opacity: what counts as 0; up to 1
_GUIDE_RADIUS, _GUIDE_EPSILON = 8, 1e-4  # of the guided filter
_SURE_EMPTY, _MIN_BACKGROUND = 0.04, 0.003  # opacity; share of the frame that has to be sure
# How little, in a well-lit photo, a surface's colour may differ from the background's and vary to
# be indistinguishable from it.
_LIKE, _PLAIN = 12.0, 7.0
_LIT, _BRIGHT = 160.0, 90  # luma of a well-lit face; percentile that has it
_DARKEST = 0.2  # of that light, at least
_HEAD_WIDTH, _HEAD_HEIGHT = 0.62, 1.5  # half axes of hair over the face's size; height over width
_BROAD = 17  # diameter of a surface that is not a strand
_UNCOVERED = 90.0  # from the outline that a head may uncover
_LEAK = 25  # diameter by which hair and shadow leak beyond the matte
_PAD_TRUST = 0.05  # of colours beyond the photo
_MAX_GRAIN = 4.0  # standard deviation


class PersonMatter:
    """MediaPipe's selfie segmentation (general model), its edge refined on the frame."""

    def __init__(self, folder: Path) -> None:
        """:param folder: holds `selfie_segmentation.tflite`."""
        graph = TfliteGraph(folder / "selfie_segmentation.tflite")
        self._kernel = graph.constant("segment/Kernel_dequantize")[0]
        self._bias = graph.constant("segment/Bias_dequantize")
        self._run = graph.cut(["input_1"], ["add_13__xeno_compat__1"])

    def __call__(self, frame: Uint8Image) -> Float32Array:
        """Estimate the opacity 0..1 of the person, (H, W), in a square frame (H, W, 3) RGB."""
        small = cv.resize(frame, (_INPUT, _INPUT), interpolation=cv.INTER_AREA)
        (features,) = self._run(small[None].astype(np.float32) / 255)
        # The last layer, a 2x2 transposed convolution with stride 2, is an operator of
        # MediaPipe's own: each cell yields a block of 2x2 logits.
        blocks = np.einsum("ijc,abc->iajb", features[0], self._kernel)
        logits = blocks.reshape(_INPUT, _INPUT) + self._bias
        coarse = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
        coarse = cv.resize(coarse, frame.shape[1::-1], interpolation=cv.INTER_CUBIC)
        opacity = guided_filter(
            frame.astype(np.float32) / 255, np.clip(coarse, 0, 1), _GUIDE_RADIUS, _GUIDE_EPSILON
        )
        # Full inside and empty outside; only the band between follows the frame.
        return np.clip((opacity - _MATTE_EMPTY) / _MATTE_RANGE, 0, 1)


def refined(matte: Float32Array, frame: Uint8Image, face: Float32Array) -> Float32Array:
    """Correct a matte (H, W) by colours, edges and landmarks.

    The face belongs to the person. What no colour or edge separates from the background around the
    person belongs to the background: in dark paintings the network guesses shoulders there, and
    their outline would show as soon as they moved. Dark hair above a face stays.

    :param frame: (H, W, 3) RGB.
    :param face: (N, 2) pixels of the face's landmarks.
    """
    height, width = matte.shape
    hull = np.zeros((height, width), np.uint8)
    cv.fillConvexPoly(hull, cv.convexHull(face.round().astype(np.int32)), (1,))
    matte = np.maximum(matte, cv.GaussianBlur(hull.astype(np.float32), (0, 0), 2))
    size = (_PLATE, _PLATE)
    empty = cv.resize(matte, size, interpolation=cv.INTER_AREA) < _SURE_EMPTY
    known = cv.erode(empty.astype(np.uint8), np.ones((5, 5), np.uint8))
    if known.mean() < _MIN_BACKGROUND:
        return matte
    luma = cv.cvtColor(frame, cv.COLOR_RGB2GRAY)[hull > 0]
    light = float(np.clip(np.percentile(luma, _BRIGHT) / _LIT, _DARKEST, 1))
    like = _like_background(frame, known, light)
    like &= cv.resize(_with_hair(hull, face), size) == 0
    broad = cv.getStructuringElement(cv.MORPH_ELLIPSE, (_BROAD, _BROAD))
    plain = cv.morphologyEx((like | (known > 0)).astype(np.uint8), cv.MORPH_OPEN, broad)
    # Only what is connected with the background that is sure.
    _, areas = cv.connectedComponents(plain)
    joined = np.isin(areas, np.unique(areas[(known > 0) & (plain > 0)])) & (plain > 0)
    removed = cv.resize(cv.GaussianBlur(joined.astype(np.float32), (0, 0), 2), (width, height))
    rest: Float32Array = matte * (1 - removed)
    return rest


def _like_background(frame: Uint8Image, known: Uint8Image, light: float) -> BoolArray:
    """Where a frame cannot be distinguished from its background, at the working size.

    :param known: 1 where the background is sure, at the working size.
    :param light: of the photo, 1 = well lit.
    """
    size = (_PLATE, _PLATE)
    soft = cv.resize(cv.GaussianBlur(frame, (0, 0), 2), size, interpolation=cv.INTER_AREA)
    soft = soft.astype(np.float32)
    background = fill_outside(soft, np.maximum(known.astype(np.float32), 1e-6))
    difference = np.abs(soft - background).max(-1)
    variance = cv.blur(soft**2, (9, 9)) - cv.blur(soft, (9, 9)) ** 2
    plain = variance.max(-1) < (_PLAIN * light) ** 2
    like: BoolArray = (difference < _LIKE * light) & plain
    return like


def _with_hair(hull: Uint8Image, face: Float32Array) -> Uint8Image:
    """A mask (H, W) of a face and the hair above it.

    :param hull: (H, W) mask of the face.
    :param face: (N, 2) pixels of its landmarks.
    """
    head = hull.copy()
    low, high = face.min(0), face.max(0)
    x, y = ((low + high) / 2).astype(int).tolist()
    across, up = (_HEAD_WIDTH * (high - low) * (1, _HEAD_HEIGHT)).astype(int).tolist()
    cv.ellipse(head, (x, y), (across, up), 0, 180, 360, (1,), -1)
    return head


def guided_filter(
    guide: Float32Array, values: Float32Array, radius: int, epsilon: float
) -> Float32Array:
    """Smooth `values` (H, W) along the colours of `guide` (H, W, 3), keeping edges.

    He, Sun, Tang 2013, "Guided image filtering": in every window the result is an affine function
    of the colour.

    :param radius: of the windows, pixels.
    :param epsilon: regularisation, in squares of the guide's unit.
    """

    def mean(array: Float32Array) -> Float32Array:
        size = (2 * radius + 1,) * 2
        blurred: Float32Array = cv.blur(array, size, borderType=cv.BORDER_REFLECT)
        return blurred

    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - mean_guide * mean_values[..., None]
    # Upper triangle of the colours' 3x3 covariance in every window.
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    products = np.stack([guide[..., a] * guide[..., b] for a, b in pairs], -1)
    means = np.stack([mean_guide[..., a] * mean_guide[..., b] for a, b in pairs], -1)
    triangle = np.concatenate([mean(products[..., :3]), mean(products[..., 3:])], -1) - means
    slope = _solve_3x3(triangle, epsilon, covariance)
    offset = mean_values - (slope * mean_guide).sum(-1)
    smoothed: Float32Array = (mean(slope) * guide).sum(-1) + mean(offset)
    return smoothed


def _solve_3x3(triangle: Float32Array, epsilon: float, right: Float32Array) -> Float32Array:
    """Solve symmetric systems by cofactors, (H, W, 3).

    :param triangle: (H, W, 6) upper triangles, row by row; `epsilon` is added to the diagonals.
    :param right: (H, W, 3) right sides.
    """
    rr, rg, rb, gg, gb, bb = np.moveaxis(triangle, -1, 0)
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    c00, c01, c02 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c11, c12, c22 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c00 + rg * c01 + rb * c02
    r, g, b = np.moveaxis(right, -1, 0)
    products = np.stack(
        [c00 * r + c01 * g + c02 * b, c01 * r + c11 * g + c12 * b, c02 * r + c12 * g + c22 * b], -1
    )
    solution: Float32Array = products / determinant[..., None]
    return solution


def inpaint_background(
    frame: Uint8Image, matte: Float32Array, pad_mask: Float32Array
) -> Uint8Image:
    """Remove the person from a frame: (H, W, 3).

    Only what lies near the outline is ever uncovered: there the surroundings go on in patches of
    their own, further in smoothly, with their grain.

    :param frame: (H, W, 3) RGB.
    :param matte: (H, W) opacity of the person.
    :param pad_mask: (H, W), 1 = beyond the photo.
    """
    height, width = frame.shape[:2]
    # Hair and shadow leak beyond the matte: keep clear of it.
    reach = cv.getStructuringElement(cv.MORPH_ELLIPSE, (_LEAK, _LEAK))
    person = cv.dilate((matte > _SURE_EMPTY).astype(np.float32), reach)
    person = cv.GaussianBlur(person, (0, 0), 3)
    filled = _filled_smoothly(frame, person, pad_mask)
    clear = (person < 0.02) & (pad_mask < 0.5)
    noise = np.random.default_rng(0).standard_normal((height, width, 1)).astype(np.float32)
    depth = cv.distanceTransform((~clear).astype(np.uint8), cv.DIST_L2, 3)
    hole = np.where(clear, 0, np.where(depth < _UNCOVERED, 1, 2)).astype(np.uint8)
    patched, agreement = completion.complete(frame, filled.astype(np.float32), hole)
    weight = agreement * np.clip(2.5 * (1 - depth / _UNCOVERED), 0, 1)
    filled = filled + min(_grain(frame, clear), _MAX_GRAIN) * noise
    filled = filled + weight[..., None] * (patched - filled)
    opacity = person[..., None]
    background = filled * opacity + frame * (1 - opacity)
    plate: Uint8Image = np.clip(background + 0.5, 0, 255).astype(np.uint8)
    return plate


def _filled_smoothly(
    frame: Uint8Image, person: Float32Array, pad_mask: Float32Array
) -> Float32Array:
    """The frame continued smoothly over a person (H, W): (H, W, 3)."""
    height, width = frame.shape[:2]
    trust = np.where(pad_mask > 0.5, _PAD_TRUST, 1).astype(np.float32)
    known = (np.clip(1 - person, 0, 1) * trust).astype(np.float32)
    small = cv.resize(frame, (_PLATE, _PLATE), interpolation=cv.INTER_AREA).astype(np.float32)
    weight = cv.resize(known, (_PLATE, _PLATE), interpolation=cv.INTER_AREA)
    # A trace everywhere, so that a frame without any visible background gets its mean colour.
    weight = np.where(weight > 0.98, 1, np.maximum(weight, 1e-5)).astype(np.float32)
    smooth = fill_outside(small, weight)
    filled: Float32Array = cv.resize(smooth, (width, height), interpolation=cv.INTER_CUBIC)
    return filled


def _grain(frame: Uint8Image, clear: BoolArray) -> float:
    """Standard deviation of the frame's grain where it is `clear` (H, W)."""
    grain = frame.astype(np.float32) - cv.GaussianBlur(frame.astype(np.float32), (0, 0), 2)
    return float(np.sqrt(np.median(grain[clear] ** 2))) if clear.any() else 0.0
