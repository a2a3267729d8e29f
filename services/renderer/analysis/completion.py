"""Completing an image with patches of itself.

PatchMatch (Barnes et al. 2009, "PatchMatch: a randomized correspondence algorithm") finds for every
patch of the hole a similar one in the known part; the colours that they propose for a pixel are
averaged, from coarse to fine (Wexler et al. 2007, "Space-time completion of video"). Deterministic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Int32Array, Uint8Image
from talkingface.renderer.compiler import njit
from talkingface.renderer.opencv import cv

# By eye.
RADIUS = 3  # of a patch, pixels
_COARSEST = 32  # side of the coarsest level, pixels
SEARCHED = 256  # side of the finest level that is searched; finer ones inherit its matches
_ROUNDS = (20, 10, 6, 4)  # searches and votes for each level, from the coarsest
_MIN_SOURCES = 50  # known patches without which a level is left out
_GUESS_TRUST, _BLIND_ROUNDS = 0.5, 3  # weight of guessed pixels; first rounds that ignore them
_AGREEMENT_REACH = 12.0  # pixels of the finest level searched
_NOISE = 12.0  # variance of three colours that no patch needs to match
_FAR = np.float32(1e12)  # more than any distance of two patches

_KNOWN, _WANTED, _UNUSED, _UNIQUE = 0, 1, 2, 3  # kinds of pixels, see `complete`


def complete(
    image: Uint8Image,
    guess: Float32Array,
    hole: Uint8Image,
    searched: int = SEARCHED,
    nearness: float = 0.0,
) -> tuple[Float32Array, Float32Array]:
    """Fill a hole with patches from around it.

    :param image: (S, S, 3), S at most a power of two times `searched`.
    :param guess: (S, S, 3) the image with the hole filled smoothly.
    :param hole: (S, S) 0 = known, 1 = to be filled, 2 = neither filled nor used, 3 = known but not
        to be repeated; there `guess` is the image.
    :param searched: side of the finest level that is searched, pixels.
    :param nearness: squared levels that a pixel's match may be worse if it lies nearer by the
        image's side.
    :return: (S, S, 3) RGB 0..255, `guess` where no patch is known; and (S, S) how well the patches
        agree with what is known beside them, 0..1: low where the surroundings do not repeat, so
        that patches of them would not fit.
    """
    size = image.shape[0]
    found: Int32Array | None = None
    filled = np.zeros((0, 0, 3), np.float32)
    for level, side in enumerate(_sides(min(size, searched))):
        photo, mask = _reduced(image, hole, side)
        start = cv.resize(guess, (side, side), interpolation=cv.INTER_AREA)
        sources = _sources(mask)
        if len(sources) < _MIN_SOURCES or not (mask == 1).any():
            continue
        if found is None:
            filled = np.where((mask == 0)[..., None], photo, start)
            found = _random(mask, sources, level)
        else:
            found = _finer(found, mask, sources, level)
            filled = _vote(photo, start, mask, found)
        rounds = _ROUNDS[min(level, len(_ROUNDS) - 1)]
        for turn in range(rounds):
            blind = level == 0 and turn < _BLIND_ROUNDS
            trust = np.float32(0.0 if blind else _GUESS_TRUST)
            pull = np.float32(nearness * (2 * RADIUS + 1) ** 2 / side**2)
            _search(_Level(filled, mask, trust, pull), found, turn, 1 + level)
            filled = _vote(photo, filled, mask, found)
    if found is None:
        return guess, np.zeros((size, size), np.float32)
    agreement = cv.resize(_agreement(filled, mask, found), (size, size))
    while found.shape[0] < size:
        photo, mask = _reduced(image, hole, 2 * found.shape[0])
        found = _finer(found, mask, _sources(mask), 0)
        start = cv.resize(guess, photo.shape[1::-1], interpolation=cv.INTER_AREA)
        filled = _vote(photo, start, mask, found)
    return filled, agreement


def _sides(side: int) -> list[int]:
    """Sides of the levels that are searched, from the coarsest to `side`."""
    sides = []
    while side >= _COARSEST:
        sides.append(side)
        side //= 2
    return sides[::-1]


def _reduced(image: Uint8Image, hole: Uint8Image, side: int) -> tuple[Float32Array, Uint8Image]:
    """Image and hole at another size; a pixel that is in part a hole is one."""
    photo = cv.resize(image, (side, side), interpolation=cv.INTER_AREA).astype(np.float32)
    step = len(hole) // side
    cells = hole.reshape(side, step, side, step).transpose(0, 2, 1, 3).reshape(side, side, -1)
    kind = np.where((cells == _UNUSED).any(-1), _UNUSED, cells.max(-1))
    return photo, np.where((cells == _WANTED).any(-1), _WANTED, kind).astype(np.uint8)


def _sources(mask: Uint8Image) -> Int32Array:
    """Centres (n, 2) (y, x) of the patches that are wholly known."""
    size = 2 * RADIUS + 1
    whole = cv.erode((mask == 0).astype(np.uint8), np.ones((size, size), np.uint8), borderValue=0)
    inside = np.zeros_like(whole)
    inside[RADIUS:-RADIUS, RADIUS:-RADIUS] = 1
    return np.argwhere(whole * inside).astype(np.int32)


def _targets(mask: Uint8Image) -> Uint8Image:
    """Centres of the patches that touch what is to be filled."""
    size = 2 * RADIUS + 1
    return np.asarray(cv.dilate((mask == 1).astype(np.uint8), np.ones((size, size), np.uint8)))


def _random(mask: Uint8Image, sources: Int32Array, seed: int) -> Int32Array:
    """A random match for every target: (H, W, 2), -1 where there is none."""
    found = np.full((*mask.shape, 2), -1, np.int32)
    wanted = _targets(mask) > 0
    chosen = np.random.default_rng(seed).integers(0, len(sources), int(wanted.sum()))
    found[wanted] = sources[chosen]
    return found


def _finer(coarse: Int32Array, mask: Uint8Image, sources: Int32Array, seed: int) -> Int32Array:
    """Matches at twice the size; random ones where they would not lie in the known part."""
    found = (
        _random(mask, sources, seed) if len(sources) else np.full((*mask.shape, 2), -1, np.int32)
    )
    known = np.zeros(mask.shape, np.uint8)
    known[sources[:, 0], sources[:, 1]] = 1
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
    offset = np.repeat(np.repeat(coarse, 2, 0), 2, 1)
    doubled = 2 * offset + np.stack([ys % 2, xs % 2], -1)
    inside = (offset[..., 0] >= 0) & (found[..., 0] >= 0)
    y, x = np.clip(doubled, 0, np.array(mask.shape) - 1).transpose(2, 0, 1)
    keep = inside & (known[y, x] > 0)
    found[keep] = doubled[keep]
    return np.ascontiguousarray(found.astype(np.int32))


class _Level(NamedTuple):
    """An image at one resolution."""

    colours: Float32Array  # (H, W, 3) as filled so far
    mask: Uint8Image  # (H, W) as `hole` of `complete`
    trust: np.float32  # weight of a guessed pixel; a known one has 1
    pull: np.float32  # added to a patch's distance for a match, by its squared offset in pixels


@njit(cache=True)
def _distance(
    level: _Level, target: tuple[int, int], match: tuple[int, int], best: np.float32
) -> np.float32:
    """Squared difference of the patches about two centres (y, x), up to `best`."""
    colours, mask, trust, pull = level
    (y, x), (v, u) = target, match
    height, width = mask.shape
    total = pull * np.float32((y - v) * (y - v) + (x - u) * (x - u))
    for i in range(-RADIUS, RADIUS + 1):
        for j in range(-RADIUS, RADIUS + 1):
            if 0 <= y + i < height and 0 <= x + j < width and mask[y + i, x + j] != _UNUSED:
                weight = trust if mask[y + i, x + j] == _WANTED else np.float32(1.0)
                for k in range(3):
                    gap = colours[y + i, x + j, k] - colours[v + i, u + j, k]
                    total += weight * gap * gap
        if total > best:
            return total
    return total


@njit(cache=True)
def _search(level: _Level, found: Int32Array, turn: int, seed: int) -> None:
    """One round of PatchMatch, in place: propagate from neighbours, then search at random.

    :param found: (H, W, 2) centres (y, x) of the matches, -1 where there is none.
    :param turn: number of the round; every second one goes backwards.
    """
    height, width = level.mask.shape
    known = _known_centres(level.mask)
    state = np.uint64(seed * 7919 + turn * 104729 + 12345)
    way = 1 if turn % 2 == 0 else -1
    for a in range(height):
        y = a if way == 1 else height - 1 - a
        for b in range(width):
            x = b if way == 1 else width - 1 - b
            if found[y, x, 0] < 0:
                continue
            v, u = found[y, x, 0], found[y, x, 1]
            best = _distance(level, (y, x), (v, u), _FAR)
            for step in range(2):
                ny, nx = (y - way, x) if step == 0 else (y, x - way)
                if not (0 <= ny < height and 0 <= nx < width) or found[ny, nx, 0] < 0:
                    continue
                row, column = found[ny, nx, 0] + y - ny, found[ny, nx, 1] + x - nx
                if 0 <= row < height and 0 <= column < width and known[row, column]:
                    gap = _distance(level, (y, x), (row, column), best)
                    if gap < best:
                        best, v, u = gap, row, column
            reach = max(height, width)
            while reach >= 1:
                state, ry = _random_offset(state, reach)
                state, rx = _random_offset(state, reach)
                row, column = v + ry, u + rx
                if 0 <= row < height and 0 <= column < width and known[row, column]:
                    gap = _distance(level, (y, x), (row, column), best)
                    if gap < best:
                        best, v, u = gap, row, column
                reach //= 2
            found[y, x, 0], found[y, x, 1] = v, u


@njit(cache=True)
def _known_centres(mask: Uint8Image) -> Uint8Image:
    """1 at the centres (H, W) of the patches that are wholly known."""
    height, width = mask.shape
    known = np.zeros((height, width), np.uint8)
    for y in range(RADIUS, height - RADIUS):
        for x in range(RADIUS, width - RADIUS):
            whole = np.uint8(1)
            for i in range(-RADIUS, RADIUS + 1):
                for j in range(-RADIUS, RADIUS + 1):
                    if mask[y + i, x + j] != 0:
                        whole = np.uint8(0)
            known[y, x] = whole
    return known


@njit(cache=True)
def _random_offset(state: np.uint64, reach: int) -> tuple[np.uint64, int]:
    """The generator's next state, and an offset from -reach to reach.

    A linear congruential generator: the same on every machine.
    """
    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return state, int((state >> np.uint64(33)) % np.uint64(2 * reach + 1)) - reach


def _agreement(filled: Float32Array, mask: Uint8Image, found: Int32Array) -> Float32Array:
    """How well matches at the hole's edge agree with what is known there, blurred, (H, W) 0..1."""
    sums = np.zeros((*mask.shape, 2), np.float32)
    _edge_errors(filled, mask, found, sums)
    error, variance = np.moveaxis(cv.GaussianBlur(sums, (0, 0), _AGREEMENT_REACH), -1, 0)
    ratio = error / np.maximum(variance, 1e-6)
    agreement: Float32Array = np.clip(2 - ratio, 0, 1).astype(np.float32)
    return agreement


@njit(cache=True)
def _edge_errors(
    filled: Float32Array, mask: Uint8Image, found: Int32Array, out: Float32Array
) -> None:
    """For patches in part known: squared error of the match there, and the variance, (H, W, 2)."""
    height, width = mask.shape
    for y in range(RADIUS, height - RADIUS):
        for x in range(RADIUS, width - RADIUS):
            v, u = found[y, x]
            if v < 0:
                continue
            count = 0
            error = np.float32(0)
            for k in range(3):
                count, total, squares = 0, np.float32(0), np.float32(0)
                for i in range(-RADIUS, RADIUS + 1):
                    for j in range(-RADIUS, RADIUS + 1):
                        if mask[y + i, x + j] == _KNOWN or mask[y + i, x + j] == _UNIQUE:
                            value = filled[y + i, x + j, k]
                            gap = value - filled[v + i, u + j, k]
                            error += gap * gap
                            total += value
                            squares += value * value
                            count += 1
                if count:
                    out[y, x, 1] += squares - total * total / count
            if count:
                out[y, x, 0] = error
                out[y, x, 1] += _NOISE * count


@njit(cache=True)
def _vote(
    photo: Float32Array, filled: Float32Array, mask: Uint8Image, found: Int32Array
) -> Float32Array:
    """Every pixel to be filled becomes the mean of what the patches over it propose."""
    height, width = mask.shape
    out = filled.copy()
    for y in range(height):
        for x in range(width):
            if mask[y, x] != 1:
                if mask[y, x] == 0:
                    for k in range(3):
                        out[y, x, k] = photo[y, x, k]
                continue
            total = np.float32(0)
            r = g = b = np.float32(0)
            for i in range(-RADIUS, RADIUS + 1):
                for j in range(-RADIUS, RADIUS + 1):
                    ny, nx = y + i, x + j
                    if not (0 <= ny < height and 0 <= nx < width) or found[ny, nx, 0] < 0:
                        continue
                    v, u = found[ny, nx, 0] - i, found[ny, nx, 1] - j
                    # Patches centred nearby weigh more, which keeps the result sharp.
                    weight = np.float32(1.0 / (1.0 + i * i + j * j))
                    total += weight
                    r += weight * photo[v, u, 0]
                    g += weight * photo[v, u, 1]
                    b += weight * photo[v, u, 2]
            if total > 0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = r / total, g / total, b / total
    return out
