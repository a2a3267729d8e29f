"""Person matte and the background behind the person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from talkingface.renderer.analysis import completion
from talkingface.renderer.analysis.tflite_graph import TfliteGraph
from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.opencv import cv

_INPUT = 256
_PLATE = 256  # working size of the background plate
# How little, of 255 in a well-lit photo, the background's colour may be missed by and a surface may
# vary to be told from the background no more.
_LIKE, _PLAIN = 12.0, 7.0
_UNCOVERED = 90.0  # pixels from the outline that a head may uncover
_LIT = 160.0  # bright parts of a well-lit face, luma


class PersonMatter:
    """MediaPipe's selfie segmentation (general model), its edge refined on the picture."""

    def __init__(self, folder: Path) -> None:
        """:param folder: holds `selfie_segmentation.tflite`."""
        graph = TfliteGraph(folder / "selfie_segmentation.tflite")
        self._kernel = graph.constant("segment/Kernel_dequantize")[0]
        self._bias = graph.constant("segment/Bias_dequantize")
        self._run = graph.cut(["input_1"], ["add_13__xeno_compat__1"])

    def __call__(self, frame: Uint8Image) -> Float32Array:
        """Opacity 0..1 of the person, (H, W), for a square frame (H, W, 3) RGB."""
        small = cv.resize(frame, (_INPUT, _INPUT), interpolation=cv.INTER_AREA)
        (features,) = self._run(small[None].astype(np.float32) / 255)
        # The last layer, a 2x2 transposed convolution with stride 2, is an operator of
        # MediaPipe's own: each cell yields a block of 2x2 logits.
        blocks = np.einsum("ijc,abc->iajb", features[0], self._kernel)
        logits = blocks.reshape(_INPUT, _INPUT) + self._bias
        coarse = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
        coarse = cv.resize(coarse, frame.shape[1::-1], interpolation=cv.INTER_CUBIC)
        refined = guided_filter(frame.astype(np.float32) / 255, np.clip(coarse, 0, 1), 8, 1e-4)
        # Full inside and empty outside; only the band between follows the picture.
        return np.clip((refined - 0.08) / 0.84, 0, 1)


def settled(matte: Float32Array, frame: Uint8Image, face: Float32Array) -> Float32Array:
    """A matte corrected by what the picture and the landmarks know better, (H, W).

    The face belongs to the person. What no colour or edge tells from the background around the
    person belongs to the background: in dark paintings the network guesses shoulders there, and
    their outline would show as soon as they moved. Dark hair above a face stays.

    :param face: (N, 2) pixels of the face's landmarks.
    """
    height, width = matte.shape
    hull = np.zeros((height, width), np.uint8)
    outline: Any = cv.convexHull(face.round().astype(np.int32))
    cv.fillConvexPoly(hull, outline, (1,))
    matte = np.maximum(matte, cv.GaussianBlur(hull.astype(np.float32), (0, 0), 2))
    size = (_PLATE, _PLATE)
    soft = cv.resize(cv.GaussianBlur(frame, (0, 0), 2), size, interpolation=cv.INTER_AREA)
    soft = soft.astype(np.float32)
    empty = cv.resize(matte, size, interpolation=cv.INTER_AREA) < 0.04
    known: Float32Array = cv.erode(empty.astype(np.uint8), np.ones((5, 5), np.uint8))
    if known.mean() < 0.003:
        return matte
    missed = np.abs(soft - fill_outside(soft, np.maximum(known.astype(np.float32), 1e-6))).max(-1)
    spread = cv.blur(soft**2, (9, 9)) - cv.blur(soft, (9, 9)) ** 2
    luma = cv.cvtColor(frame, cv.COLOR_RGB2GRAY)[hull > 0]
    light = float(np.clip(np.percentile(luma, 90) / _LIT, 0.2, 1))
    like = (missed < _LIKE * light) & (spread.max(-1) < (_PLAIN * light) ** 2)
    head = hull.copy()
    low, high = face.min(0), face.max(0)
    x, y = ((low + high) / 2).astype(int).tolist()
    across, up = (0.62 * (high - low) * (1, 1.5)).astype(int).tolist()
    cv.ellipse(head, (x, y), (across, up), 0, 180, 360, (1,), -1)
    like &= cv.resize(head, size) == 0
    broad = cv.getStructuringElement(cv.MORPH_ELLIPSE, (17, 17))
    plain = cv.morphologyEx((like | (known > 0)).astype(np.uint8), cv.MORPH_OPEN, broad)
    # Only what hangs together with the background that is sure.
    _, areas = cv.connectedComponents(plain)
    joined = np.isin(areas, np.unique(areas[(known > 0) & (plain > 0)])) & (plain > 0)
    leave = cv.resize(cv.GaussianBlur(joined.astype(np.float32), (0, 0), 2), (width, height))
    return matte * (1 - leave)


def guided_filter(
    guide: Float32Array, values: Float32Array, radius: int, epsilon: float
) -> Float32Array:
    """Edge-aware smoothing of `values` (H, W) along the colours of `guide` (H, W, 3).

    He, Sun, Tang 2013, "Guided image filtering": in every window the result is an affine function
    of the colour.
    """

    def mean(array: Float32Array) -> Float32Array:
        return cv.blur(array, (2 * radius + 1,) * 2, borderType=cv.BORDER_REFLECT)

    mean_guide, mean_values = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - mean_guide * mean_values[..., None]
    # Upper triangle of the colours' 3x3 covariance in every window.
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    products = np.stack([guide[..., a] * guide[..., b] for a, b in pairs], -1)
    means = np.stack([mean_guide[..., a] * mean_guide[..., b] for a, b in pairs], -1)
    triangle = np.concatenate([mean(products[..., :3]), mean(products[..., 3:])], -1) - means
    rr, rg, rb, gg, gb, bb = np.moveaxis(triangle, -1, 0)
    rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
    # Inverse of the symmetric matrix by cofactors.
    c00, c01, c02 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c11, c12, c22 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c00 + rg * c01 + rb * c02
    r, g, b = np.moveaxis(covariance, -1, 0)
    slope = np.stack(
        [c00 * r + c01 * g + c02 * b, c01 * r + c11 * g + c12 * b, c02 * r + c12 * g + c22 * b], -1
    )
    slope /= determinant[..., None]
    offset = mean_values - (slope * mean_guide).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)


def inpaint_background(
    frame: Uint8Image, matte: Float32Array, pad_mask: Float32Array
) -> Uint8Image:
    """The frame without its person: (H, W, 3).

    Only what lies near the outline is ever uncovered: there the surroundings go on in patches of
    their own, further in smoothly, with their grain.

    :param matte: (H, W) opacity of the person; :param pad_mask: (H, W), 1 = beyond the photo.
    """
    height, width = frame.shape[:2]
    # Hair and shadow leak beyond the matte: keep clear of it.
    reach = cv.getStructuringElement(cv.MORPH_ELLIPSE, (25, 25))
    person = cv.dilate((matte > 0.04).astype(np.float32), reach)
    person = cv.GaussianBlur(person, (0, 0), 3)
    trust = np.where(pad_mask > 0.5, 0.05, 1).astype(np.float32)
    known = (np.clip(1 - person, 0, 1) * trust).astype(np.float32)
    small = cv.resize(frame, (_PLATE, _PLATE), interpolation=cv.INTER_AREA).astype(np.float32)
    weight = cv.resize(known, (_PLATE, _PLATE), interpolation=cv.INTER_AREA)
    # A trace everywhere, so that a frame without any visible background gets its mean colour.
    weight = np.where(weight > 0.98, 1, np.maximum(weight, 1e-5)).astype(np.float32)
    filled = cv.resize(fill_outside(small, weight), (width, height), interpolation=cv.INTER_CUBIC)
    grain = frame.astype(np.float32) - cv.GaussianBlur(frame.astype(np.float32), (0, 0), 2)
    clear = (person < 0.02) & (pad_mask < 0.5)
    spread = float(np.sqrt(np.median(grain[clear] ** 2))) if clear.any() else 0.0
    noise = np.random.default_rng(0).standard_normal((height, width, 1)).astype(np.float32)
    depth = cv.distanceTransform((~clear).astype(np.uint8), cv.DIST_L2, 3)
    hole = np.where(clear, 0, np.where(depth < _UNCOVERED, 1, 2)).astype(np.uint8)
    patched, agreement = completion.complete(frame, filled.astype(np.float32), hole)
    share = agreement * np.clip(2.5 * (1 - depth / _UNCOVERED), 0, 1)
    filled = filled + min(spread, 4.0) * noise
    filled = filled + share[..., None] * (patched - filled)
    mix = person[..., None]
    return np.clip(filled * mix + frame * (1 - mix) + 0.5, 0, 255).astype(np.uint8)
