"""The pixel functions against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels import face, layers
from talkingface.renderer.pixels.crops import cut_crop, find_applied, paste_residual
from talkingface.renderer.pixels.packed import bilinear, channels, mix, pack, unpack, weight_of
from talkingface.renderer.pixels.planar import i420
from talkingface.renderer.pixels.triangles import (
    NONE,
    attributes_at,
    draw_triangles,
    table_width,
)

CELLS, CELL = 16, 4
SIDE = CELLS * CELL  # of a small frame


def smooth_image(height: int, width: int, channels: int = 3, seed: int = 0) -> Uint8Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (9, 9, channels)).astype(np.uint8)
    return cv.resize(coarse, (width, height), interpolation=cv.INTER_LINEAR)


def test_packing_keeps_colours_and_opacity() -> None:
    image = smooth_image(5, 7, 4)
    assert np.array_equal(channels(pack(image)), image)
    assert np.array_equal(unpack(pack(image[..., :3])), image[..., :3])
    assert (channels(pack(image[..., :3]))[..., 3] == 255).all()


def test_mixing_is_exact_at_both_ends_and_rounds_between() -> None:
    random = np.random.default_rng(1)
    below, above = (random.integers(0, 256, (50, 4)).astype(np.uint8) for _ in range(2))
    pairs = list(zip(below.view(np.uint32)[:, 0], above.view(np.uint32)[:, 0], strict=True))
    for weight in (0, 1, 100, 255, 256):
        mixed = np.array([mix(a, b, np.uint32(weight)) for a, b in pairs], np.uint32)
        exact = below + (above.astype(float) - below) * weight / 256
        assert np.abs(mixed.view(np.uint8).reshape(-1, 4) - exact).max() <= 0.5
    assert [weight_of(np.float32(v)) for v in (0, 0.5, 1)] == [0, 128, 256]


def test_interpolation_is_linear_and_ends_at_the_borders() -> None:
    image = smooth_image(60, 80, 4)
    packed = pack(image)
    random = np.random.default_rng(2)
    positions = random.uniform((-5, -5), (85, 65), (400, 2)).astype(np.float32)
    found = np.array([bilinear(packed, x, y) for x, y in positions], np.uint32)
    inside = np.clip(positions, 0, (79 - 1 / 16, 59 - 1 / 16)).astype(np.float32)
    exact = cv.remap(
        image.astype(np.float32), inside[:, None], None, cv.INTER_LINEAR, borderMode=1
    )[:, 0]
    steepest = max(np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (0, 1))
    # Positions are rounded to sixteenths of a pixel.
    assert np.abs(found.view(np.uint8).reshape(-1, 4) - exact).max() <= 2 * steepest / 32 + 1


def drawn(
    points: Float32Array, values: Float32Array, triangles: np.ndarray, size: int, cull: bool
) -> tuple[np.ndarray, np.ndarray, Float32Array]:
    """Triangles, depths and attributes of the pixels of a square."""
    table = np.zeros((len(triangles), table_width(len(values))), np.float32)
    ids, depth = np.empty((size, size), np.int32), np.empty((size, size), np.float32)
    draw_triangles(points, values, triangles.astype(np.int32), cull, table, ids, depth)
    found = np.empty((len(values), size, size), np.float32)
    attributes_at(ids, table, found)
    return ids, depth, found


def test_the_nearer_triangle_is_seen() -> None:
    points = np.array(
        [[0, 0, 1], [0, 9, 1], [9, 0, 1], [0, 0, 2], [0, 9, 2], [9, 0, 2]], np.float32
    )
    values = np.arange(6, dtype=np.float32)[None]
    ids, depth, found = drawn(points, values, np.array([[0, 1, 2], [3, 4, 5]]), 10, False)
    assert ids[2, 2] == 1 and depth[2, 2] == 2 and ids[9, 9] == NONE and found[0, 9, 9] == 0
    assert found[0, 0, 0] == pytest.approx(3) and found[0, 9, 0] == pytest.approx(4)
    turned = points[[0, 2, 1, 3, 5, 4]]
    assert (drawn(turned, values, np.array([[0, 1, 2]]), 10, False)[0] == 0).any()
    hidden = {
        cull: (drawn(turned, values, np.array([[0, 1, 2]]), 10, cull)[0] == 0).any()
        for cull in (False, True)
    }
    assert sum(hidden.values()) == 1 or not hidden[True]


def test_a_mesh_has_no_cracks_and_its_attributes_are_linear() -> None:
    nodes = 9
    random = np.random.default_rng(4)
    along = np.linspace(-4, 67, nodes)
    xs, ys = np.meshgrid(along, along)
    points = np.stack([xs, ys, np.zeros_like(xs)], -1)
    points[1:-1, 1:-1, :2] += random.uniform(-3, 3, (nodes - 2, nodes - 2, 2))
    points = points.reshape(-1, 3).astype(np.float32)
    index = np.arange(nodes * nodes).reshape(nodes, nodes)
    a, b, c, d = (
        part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
    )
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    values = np.stack([points[:, 0], 3 * points[:, 1] - points[:, 0]])
    ids, _, found = drawn(points, values, triangles, SIDE, True)
    assert (ids != NONE).all()
    y, x = np.mgrid[:SIDE, :SIDE]
    np.testing.assert_allclose(found, [x, 3 * y - x], atol=1e-3)


@pytest.fixture
def sources() -> layers.Sources:
    """A small portrait: a disc of a person with a soft edge, part of it nothing but photo."""
    size = SIDE + 2 * layers.MARGIN
    y, x = np.mgrid[:size, :size] - size / 2
    opacity = np.clip((24 - np.hypot(x, y)) * 30, 0, 255)
    opacity[(opacity == 255) & (x > 8)] = layers.SOLID
    rear = np.dstack([smooth_image(size, size, 3, 5), opacity.astype(np.uint8)])
    blocks = rear[..., 3].reshape(size // layers.BLOCK, layers.BLOCK, -1, layers.BLOCK)
    return layers.Sources(
        pack(smooth_image(2 * SIDE, 2 * SIDE, seed=6)),
        pack(smooth_image(SIDE, SIDE, seed=7)),
        pack(smooth_image(SIDE, SIDE, seed=8)),
        pack(rear),
        blocks.min((1, 3)),
        blocks.max((1, 3)),
    )


def test_what_is_left_out_of_the_rear_layer_is_not_seen(sources: layers.Sources) -> None:
    along = (np.arange(CELLS, dtype=np.float32) + 0.5) * CELL - 0.5
    flow = np.stack(np.meshgrid(along, along)).astype(np.float32)
    flow[0] += 3 * np.sin(flow[1] / 9)
    flow[1] -= 4
    out, row = np.zeros((SIDE, SIDE), np.uint32), np.empty((2, SIDE), np.float32)
    hidden = np.zeros((CELLS, SIDE // layers.TILE), bool)
    hidden[3, 1] = True
    layers.compose_rear(sources, flow, hidden, row, out)
    assert not out[12:16, 32:].any()
    kinds = {int(layers.tile_kind(sources, flow, j, n)) for j in range(CELLS) for n in range(2)}
    assert kinds >= {layers.EMPTY, layers.MIXED}
    for y in (0, 1, 17, 30, 33, 63):
        for x in range(SIDE):
            across = np.array(
                [layers.between(flow[k, :, i], y) for k in (0, 1) for i in range(CELLS)]
            )
            u, v = (layers.between(part.astype(np.float32), x) for part in across.reshape(2, -1))
            below = layers.background_pixel(
                sources.background[y, x], sources.near[y, x], layers.distance(u, v, x, y)
            )
            rear = layers.layer_pixel(sources.rear, u, v)
            wanted = layers.rear_pixel(rear, layers.sharp_pixel(sources.photo, u, v), below)
            apart = channels(out)[y, x].astype(int) - np.array([wanted], np.uint32).view(np.uint8)
            assert np.abs(apart).max() <= 4, (x, y)  # a position may round to its neighbour


def test_soft_edges_reach_beyond_a_layer_and_leave_its_middle_opaque() -> None:
    shown = np.zeros((SIDE, SIDE), np.float32)
    shown[20:44, 20:44] = 1
    opacity = np.empty_like(shown)
    face.soften(shown, np.empty_like(shown), opacity)
    assert opacity[24:40, 24:40].min() > 0.999 and not opacity[:15].any()
    assert 0.4 < opacity[19, 32] < 1 and np.abs(np.diff(opacity[:, 32])).max() < 0.5
    hidden = np.empty((CELLS, SIDE // layers.TILE), bool)
    face.find_hidden(np.ones_like(shown), CELL, layers.TILE, hidden)
    assert hidden.all()
    face.find_hidden(opacity, CELL, layers.TILE, hidden)
    assert not hidden.any()


def test_a_flow_goes_on_evenly_beyond_its_edge() -> None:
    ids = np.full((SIDE, SIDE), NONE, np.int32)
    ids[:, :30] = 0
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    layer = face.FacePixels(2 + x * (ids == 0), y * (ids == 0), np.ones_like(x), ids)
    face.continue_flow(layer)
    np.testing.assert_array_equal(layer.u[:, :34], 2 + x[:, :34])
    assert not layer.u[:, 34:].any()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_two_layers_laid_over_one_another_give_their_mixture(share: float) -> None:
    opacity = np.linspace(0, 1, 12, dtype=np.float32)[None]
    shares = np.full_like(opacity, share)
    whole = opacity.copy()
    face.share_opacity(opacity, shares)
    below, first, second = 10.0, 100.0, 200.0
    laid = below + opacity * (first - below)
    laid += shares * (second - laid)
    np.testing.assert_allclose(
        laid, below + whole * (first + share * (second - first) - below), atol=1e-3
    )


def test_a_crop_shows_frame_mask_and_portrait_and_nothing_beyond() -> None:
    image, own = smooth_image(SIDE, SIDE), smooth_image(16, 16, seed=9)
    mask = smooth_image(SIDE, SIDE, 2)
    out = np.empty((16, 16, 8), np.uint8)
    back = np.array([[2, 0, 30], [0, 2, 40]], np.float32)
    pairs = np.ascontiguousarray(mask).view(np.uint16)[..., 0]
    cut_crop(pack(image), pairs, own, back, out.view(np.uint64)[..., 0])
    assert np.array_equal(out[:12, :17, :3], image[40:64:2, 30:62:2])
    assert np.array_equal(out[:12, :, 3:5], mask[40:64:2, 30:62:2])
    assert np.array_equal(out[..., 5:], own) and not out[12:, :, :5].any()


def test_a_residual_is_pasted_where_it_applies() -> None:
    image = pack(np.full((SIDE, SIDE, 3), 250, np.uint8))
    residual = np.zeros((16, 16, 4), np.float32)
    assert find_applied(residual)[1] < 0
    residual[4:9, 5:8] = (0.5, -0.2, 0, 1)
    assert find_applied(residual) == (5, 7, 4, 8)
    matrix = np.array([[1, 0, -20], [0, 1, -30]], np.float32)
    paste_residual(residual, np.ones(16, np.float32), matrix, (0, 0, SIDE, SIDE), image)
    assert np.array_equal(unpack(image)[36, 26], [255, 199, 250])
    changed = (unpack(image) != 250).any(-1)
    assert np.array_equal(np.argwhere(changed).min(0), [34, 25])
    assert np.array_equal(np.argwhere(changed).max(0), [38, 27])


def test_planes_are_those_of_bt601() -> None:
    colours = np.random.default_rng(3).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = np.kron(colours, np.ones((4, 4, 1), np.uint8))
    planes = i420(pack(image)).astype(int)
    wanted = cv.cvtColor(image, cv.COLOR_RGB2YUV_I420)
    assert planes.shape == (48, 32) and np.abs(planes - wanted).max() <= 1
