"""What lies behind the face: hair, neck and shoulders as one plate, and smooth filling."""

from __future__ import annotations

import numpy as np

from talkingface.renderer.arrays import BoolArray, Float32Array, Int64Array, Uint8Image
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.geometry.surface import smoothstep
from talkingface.renderer.opencv import cv

CHIN = 0.045  # of the face's width: how far below the fitted chin its edge is looked for
SHADES = (0.35, 1.15)  # of the face's colour that a neck may have
CHIN_SHADE = 0.18  # of the light
RUN = 6  # pixels over which a filled neck runs over into the photo's
GRAIN = 6.0  # levels by which mirrored grain may change a fill
CUT = 12  # rows below the upper edge from which an outline's course beyond it is told
SOLID = 254  # opacity from which nothing shines through; 255 is the photo itself
MARGIN = 96  # pixels by which the rear plate reaches beyond the frame


def settled_matte(
    frame: Uint8Image, matte: Float32Array, background: Uint8Image, chin: float
) -> Float32Array:
    """The matte with its doubtful parts decided by whether they look like the background.

    What does may as well stand still, and its colours, taken for a person's, would be a ghost. What
    does not, in larger areas below row `chin` (a dark sleeve), is the person's; strands of hair
    stay as they are.
    """
    apart = np.abs(frame.astype(np.int16) - background).max(-1).astype(np.float32)
    alike = smoothstep(28, 10, cv.blur(apart, (5, 5)))
    doubtful = smoothstep(0.97, 0.8, matte)
    near = cv.dilate(matte, np.ones((15, 15), np.uint8))
    sleeve = smoothstep(0.9, 0.7, near) * smoothstep(0.1, 0.25, matte) * smoothstep(30, 60, apart)
    settled = matte * (1 - alike * doubtful)
    # Below the chin, what has the colour of the body beside it is body throughout.
    small = cv.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv.INTER_AREA)
    solid = cv.resize(matte, small.shape[1::-1], interpolation=cv.INTER_AREA) > 0.97
    body = fill_outside(small.astype(np.float32), solid.astype(np.float32))
    body = cv.resize(body, frame.shape[1::-1], interpolation=cv.INTER_LINEAR)
    unlike = np.abs(frame - body).max(-1)
    beside = smoothstep(0.1, 0.3, matte) * smoothstep(30, 60, apart) * (unlike < 0.7 * apart)
    sleeve = np.maximum(sleeve, cv.blur(beside.astype(np.float32), (5, 5)))
    sleeve[: max(int(chin), 0)] = 0
    return (settled + sleeve * (1 - settled)).astype(np.float32)


def person_colours(frame: Uint8Image, matte: Float32Array, background: Uint8Image) -> Float32Array:
    """The person's own colours where hair and edge are half transparent, (H, W, 3) float.

    Solves frame = matte * person + (1 - matte) * background; where next to nothing of the person
    is seen, the colours continue from within.
    """
    photo, behind = frame.astype(np.float32), background.astype(np.float32)
    opacity = matte[..., None]
    person = (photo - (1 - opacity) * behind) / np.maximum(opacity, 0.25)
    person = np.clip(person, 0, 255)
    small = cv.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    solid = cv.resize(
        (matte > 0.97).astype(np.float32), small.shape[1::-1], interpolation=cv.INTER_AREA
    )
    inner = cv.resize(fill_outside(small, solid), frame.shape[1::-1], interpolation=cv.INTER_LINEAR)
    trust = np.clip((matte - 0.15) / 0.35, 0, 1)[..., None]
    return person * trust + inner * (1 - trust)


def rear_plate(
    frame: Uint8Image,
    matte: Float32Array,
    background: Uint8Image,
    face: Float32Array,
    behind: Float32Array,
) -> tuple[Uint8Image, Uint8Image]:
    """Hair, neck and shoulders as RGBA: as they are, and with the jaw and cheeks taken away.

    :param face: (H, W) 1 where the face hides what is behind it and may uncover it.
    :param behind: (H, W) 1 where neck and skull are, seen or not.
    """
    photo = np.dstack([person_colours(frame, matte, background), 255 * matte])
    hide = cv.dilate(face, np.ones((5, 5), np.uint8))
    # The person's outline goes with the face that makes it.
    hide = np.maximum(hide, cv.dilate(face, np.ones((13, 13), np.uint8)) * (matte < 0.98))
    hide = np.maximum(hide, _skin_beside(photo[..., :3], face, hide))
    hide = np.maximum(hide, _chin_beyond(frame, hide))
    if hide.max() <= 0.5:
        raise ValueError("the face lies outside the frame")
    filled = _around(photo, hide)
    _add_neck(filled, photo, hide, behind)
    soft = np.maximum(cv.GaussianBlur(hide, (0, 0), 1.0), _run_over(photo, filled, hide))
    filled -= photo
    filled *= soft[..., None]
    filled += photo
    filled[..., 3] = _without_slivers(filled, face)
    plate, cleared = _as_bytes(photo), _as_bytes(filled)
    invented = (plate != cleared).any(-1)
    cleared[invented, 3] = np.minimum(cleared[invented, 3], SOLID)
    return plate, cleared


def _as_bytes(values: Float32Array) -> Uint8Image:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _around(photo: Float32Array, hide: Float32Array) -> Float32Array:
    """The person's colours and opacity (H, W, 4) continued over what is hidden."""
    half = cv.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    shown = cv.resize(1 - hide, half.shape[1::-1], interpolation=cv.INTER_AREA) > 0.999
    # Colours come from the person alone, the opacity from everything around.
    person = shown & (half[..., 3] > 240)
    colours = fill_outside(half[..., :3], person.astype(np.float32))
    opacity = fill_outside(half[..., 3:], shown.astype(np.float32))
    filled = np.concatenate([colours, opacity], 2)
    return np.asarray(cv.resize(filled, photo.shape[1::-1], interpolation=cv.INTER_LINEAR))


def _add_neck(
    filled: Float32Array, photo: Float32Array, hide: Float32Array, behind: Float32Array
) -> None:
    """Neck and skull behind the face, in place: solid, but no wider than right below the jaw.

    Of the colour that the neck has there, save at the sides, where hair comes down.
    """
    colour, seen, like = _below(photo, hide)
    columns = np.nonzero(hide.max(0) > 0.5)[0]
    middle, half_width = columns.mean(), max(np.ptp(columns) / 2, 1)
    central = np.clip((0.9 - np.abs(np.arange(len(seen)) - middle) / half_width) / 0.2, 0, 1)
    share = (np.maximum(central, like) * seen).astype(np.float32)[:, None]
    # The chin keeps the light from it.
    depth = _lower_end(hide) - np.arange(len(hide), dtype=np.float32)[:, None]
    shade = 1 - CHIN_SHADE * smoothstep(0, 36, depth)
    filled[..., :3] += share * (colour * shade[..., None] - filled[..., :3])
    filled[..., :3] += (seen * like)[:, None] * _mirrored_grain(photo[..., :3], hide)
    opacity = np.clip((filled[..., 3] / 255 - 0.3) / 0.4, 0, 1)
    filled[..., 3] = 255 * np.maximum(opacity, behind * seen)


def _without_slivers(plate: Float32Array, face: Float32Array) -> Float32Array:
    """The opacity (H, W) of a plate without thin remains of the jaw's outline below the ears.

    Of what is thin about the jaw only what has the face's colour: the edge of a collar stays.
    """
    around = cv.dilate(face, np.ones((45, 45), np.uint8))
    around[: _middle_row(face)] = 0
    disc = cv.getStructuringElement(cv.MORPH_ELLIPSE, (11, 11))
    opacity = np.ascontiguousarray(plate[..., 3])
    thin = opacity - np.minimum(cv.morphologyEx(opacity, cv.MORPH_OPEN, disc), opacity)
    inside = around > 0.5
    alike = np.zeros_like(opacity)
    alike[inside] = _like_skin(plate[inside, :3], np.median(plate[face > 0.5, :3], 0))
    alike = cv.GaussianBlur(cv.dilate(alike, np.ones((5, 5), np.uint8)), (0, 0), 1.5)
    return opacity - thin * alike


def _middle_row(face: Float32Array) -> int:
    """Row of a face (H, W) below its ears."""
    rows = np.nonzero(face.max(1) > 0.5)[0]
    return int(rows.min() + 0.3 * np.ptp(rows)) if len(rows) else 0


def _skin_beside(colours: Float32Array, face: Float32Array, hide: Float32Array) -> Float32Array:
    """Where a rim of skin beside the jaw was left, for the face's edge is not known to the pixel.

    Below the middle of the face only: above lie the ears.
    """
    near = cv.dilate(face, np.ones((3, 19), np.uint8))
    small = cv.resize(colours, None, fx=0.25, fy=0.25, interpolation=cv.INTER_AREA)
    size = colours.shape[1::-1]

    def continued_from(mask: Float32Array) -> Float32Array:
        weight = cv.resize(mask, small.shape[1::-1], interpolation=cv.INTER_AREA)
        found = fill_outside(small, (weight > 0.99).astype(np.float32))
        return cv.resize(found, size, interpolation=cv.INTER_LINEAR)

    skin = continued_from(cv.erode(face, np.ones((7, 7), np.uint8)))
    around = continued_from(1 - near)
    alike = np.abs(colours - skin).sum(-1) < 0.7 * np.abs(colours - around).sum(-1)
    ring = (near > 0.5) & (hide < 0.5) & alike
    ring[: _middle_row(face)] = False
    return cv.dilate(ring.astype(np.float32), np.ones((3, 3), np.uint8))


def _run_over(photo: Float32Array, filled: Float32Array, hide: Float32Array) -> Float32Array:
    """Share (H, W) by which a fill runs on below what is hidden, where the photo is like it."""
    reach = np.ones((2 * RUN + 1, 1), np.uint8)
    below = cv.dilate(hide, reach, anchor=(0, 2 * RUN))
    below = cv.GaussianBlur(below, (0, 0), RUN / 2.5)
    apart = np.abs(photo[..., :3] - filled[..., :3]).max(-1)
    return below * smoothstep(100, 40, cv.blur(apart, (11, 11)))


def _lower_end(hide: Float32Array) -> Int64Array:
    """The last hidden row of each column, (W,); the last row of all where nothing is hidden."""
    return len(hide) - 1 - np.argmax(hide[::-1] > 0.5, 0)


def _chin_beyond(frame: Uint8Image, hide: Float32Array) -> Float32Array:
    """Where the chin goes on below what is hidden, for the fit may be short of its edge.

    The strongest edge in the next few pixels, if it is one, and its neighbours agree.
    """
    height, width = hide.shape
    columns = np.nonzero(hide.max(0) > 0.5)[0]
    out = np.zeros_like(hide)
    if len(columns) == 0:
        return out
    reach = max(round(CHIN * np.ptp(columns)), 2)
    grey = cv.GaussianBlur(cv.cvtColor(frame, cv.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
    last = _lower_end(hide)
    rows = np.clip(last + np.arange(reach + 2)[:, None], 0, height - 1)
    steps = np.abs(grey[rows[2:], np.arange(width)] - grey[rows[:-2], np.arange(width)])
    found = np.where(steps.max(0) > 8, steps.argmax(0) + 1, 0)
    # Below a chin lies skin; a collar's edge is not the chin's.
    below = frame[np.minimum(last + found + 4, height - 1), np.arange(width)].astype(np.float32)
    likeness = _like_skin(below, np.median(frame[hide > 0.5], 0))
    found = np.where(likeness > 0.5, found, 0)[columns]
    # The middle of the neighbours' opinions.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(found, 10, mode="edge"), 21)
    agreed = cv.GaussianBlur(np.median(around, 1)[None].astype(np.float32), (0, 0), 5)[0]
    for column, beyond in zip(columns, agreed.round().astype(int), strict=True):
        if beyond > 0:
            out[last[column] : last[column] + beyond + 6, column] = 1
    return out


def _mirrored_grain(colours: Float32Array, hide: Float32Array) -> Float32Array:
    """What is hidden above the neck takes on the neck's grain, mirrored at the edge, (H, W, 3)."""
    height, width = hide.shape
    last = _lower_end(hide).astype(np.float32)
    last = cv.GaussianBlur(last[None], (0, 0), 4)[0]
    ys = np.arange(height, dtype=np.float32)[:, None]
    depth = last + 3 - ys  # rows above the edge
    fine = colours - cv.GaussianBlur(colours, (0, 0), 4)
    xs = np.broadcast_to(np.arange(width, dtype=np.float32), hide.shape)
    found = cv.remap(fine, xs, last + 3 + depth, cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)
    share = smoothstep(40, 12, np.abs(depth)) * (depth > 0) * hide
    return np.clip(found, -GRAIN, GRAIN) * share[..., None]


def continued(plate: Uint8Image) -> Uint8Image:
    """A plate (H, W, 4) continued beyond the frame, for heads that move off or away from it.

    Colours are mirrored right at the edge and soon become smooth, so that no mirrored button shows.
    The outline goes straight on, but hair that the upper edge has cut is closed by a low dome.
    """
    height, width = plate.shape[:2]
    around = (MARGIN,) * 4
    out = cv.copyMakeBorder(plate, *around, cv.BORDER_REFLECT_101)
    outline = cv.copyMakeBorder(plate[..., 3], *around, cv.BORDER_REPLICATE)
    inside = cv.copyMakeBorder(np.ones((height, width), np.uint8), *around, cv.BORDER_CONSTANT)
    half = cv.resize(out[..., :3], None, fx=0.5, fy=0.5, interpolation=cv.INTER_AREA)
    seen = cv.resize(inside, half.shape[1::-1], interpolation=cv.INTER_AREA).astype(np.float32)
    smooth = fill_outside(half.astype(np.float32), seen)
    smooth = cv.resize(smooth, out.shape[1::-1], interpolation=cv.INTER_LINEAR)
    away = cv.distanceTransform(1 - inside, cv.DIST_C, 3)
    share = smoothstep(4, 56, away)
    for k in range(3):
        out[..., k] = out[..., k] * (1 - share) + smooth[..., k] * share + 0.5
    up = np.arange(MARGIN, 0, -1, dtype=np.float32)[:, None]
    dome = _dome(outline[MARGIN:])
    outline[:MARGIN] = (outline[:MARGIN] * np.clip(dome - up + 1, 0, 1)).astype(np.uint8)
    out[..., 3] = np.where(inside > 0, outline, np.minimum(outline, SOLID))
    return out


def _dome(opacity: Uint8Image) -> Float32Array:
    """How far (W,) an outline that the upper edge cuts goes on above it, closed by parabolas.

    :param opacity: (H, W); how fast the outline narrows towards its first row says how soon it
        closes: the square of a parabola's width grows evenly from its top.
    """
    below = min(CUT, len(opacity) - 1)
    touching, lower = opacity[0] > 127, opacity[below] > 127
    out = np.zeros(len(touching), np.float32)
    for first, last in _runs(touching):
        middle = (first + last) // 2
        wide = next((b - a for a, b in _runs(lower) if a <= middle < b), last - first)
        radius = (last - first) / 2
        grown = (wide / 2) ** 2 - radius**2
        height = below * radius**2 / max(grown, 1e-3)
        across = (np.arange(first, last) + 0.5 - first - radius) / radius
        height = min(height, 0.5 * radius, MARGIN - 8)
        out[first:last] = height * np.sqrt(np.maximum(1 - across**2, 0))
    return out


def _runs(flags: BoolArray) -> list[tuple[int, int]]:
    """First and one past the last index of every run of True."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in ends.reshape(-1, 2)]


def _like_skin(colours: Float32Array, skin: Float32Array) -> Float32Array:
    """How much colours (N, 3) are some shade of a face's colour (3,), (N,)."""
    shade = np.clip(colours @ skin / max(float(skin @ skin), 1), *SHADES)[:, None]
    strange = np.linalg.norm(colours - shade * skin, axis=1) / max(float(np.linalg.norm(skin)), 1)
    return smoothstep(0.22, 0.1, strange)


def _below(
    photo: Float32Array, hide: Float32Array
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """For each column what is seen just below `hide`, if it is skin: colours (W, 3), share of a
    person (W,), and how much like skin it is (W,). Collars and beards lend the neck no colour.

    :param photo: (H, W, 4) RGB and opacity 0..255; hide (H, W).
    """
    height, width = hide.shape
    covered = hide > 0.5
    last = _lower_end(hide)
    rows = np.clip(last + np.arange(2, 8)[:, None], 0, height - 1)
    below = photo[rows, np.arange(width)]
    opacity = below[..., 3:] / 255 * covered.any(0)[:, None]
    seen = opacity.mean(0)[:, 0]
    colour = (below[..., :3] * opacity).mean(0) / np.maximum(seen, 1e-3)[:, None]
    skin = np.median(photo[..., :3][covered], 0)
    like = _like_skin(colour, skin)
    spread = below[..., :3].std(0).mean(-1) / max(float(skin.mean()), 1)
    like *= smoothstep(0.2, 0.08, spread)  # nor does the collar's edge
    weight = seen * np.maximum(like, 1e-6)
    # Neighbouring columns together: a crease or strand is not to become a stripe.
    total = cv.GaussianBlur(weight[None], (0, 0), 6)[0]
    mean = cv.GaussianBlur((colour * weight[:, None])[None], (0, 0), 6)[0]
    mean /= np.maximum(total, 1e-9)[:, None]
    known = np.nonzero(total > min(0.1, 0.5 * float(total.max())))[0]
    if len(known):
        mean = np.stack([np.interp(np.arange(width), known, c[known]) for c in mean.T], 1)
    mean = cv.GaussianBlur(mean[None].astype(np.float32), (0, 0), 4)[0]
    return mean, cv.blur(seen[None].astype(np.float32), (5, 1))[0], like
