"""Formulas and edges of what is drawn into the face, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from talkingface.renderer.geometry.eyes import lid_shade, rims_of
from talkingface.renderer.pixels.drawing import stroke_opacity
from talkingface.renderer.pixels.eyes import hull_span, write_hull
from talkingface.renderer.pixels.mouth import beside_edge
from talkingface.renderer.pixels.shading import cosine, decay, packed_pixel, tenth_power

SQUARE = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.float32)


def test_smooth_functions_are_close_to_the_exact_ones() -> None:
    for x in np.linspace(0, 60, 241, dtype=np.float32):
        assert decay(x) == pytest.approx(np.exp(-x), abs=3e-4)
    for x in np.linspace(0, 1.5, 61, dtype=np.float32):
        assert cosine(x) == pytest.approx(np.cos(x), abs=1e-3)
    for x in np.geomspace(1e-4, 1, 61, dtype=np.float32):
        assert tenth_power(x) == pytest.approx(x**0.1, rel=1e-3)


def test_a_packed_pixel_keeps_to_its_bytes() -> None:
    pixel = packed_pixel(np.float32(300), np.float32(-5), np.float32(127.6), np.float32(1))
    assert np.uint32(pixel) == 0xFF8000FF


def test_a_stroke_is_opaque_along_its_line_and_ends_beyond_its_soft_edge() -> None:
    stroke = np.array([10, 10, 30, 10, 4, 0.5], np.float32)
    at = [
        stroke_opacity(stroke, np.float32(1), np.float32(20), np.float32(y)) for y in (10, 12, 14)
    ]
    assert at == pytest.approx([0.5, 0.25, 0.0])


def test_a_hull_grows_by_its_margin() -> None:
    hull = np.empty((len(SQUARE) + 4, 3), np.float32)
    write_hull(SQUARE, np.float32(2), hull)
    assert [int(n) for n in hull_span(hull, np.float32(18), 100)] == [8, 33]
    first, end = hull_span(hull, np.float32(17), 100)
    assert first == end


@pytest.mark.parametrize(
    ("x", "y", "shown"), [(20, 30, True), (9, 30, True), (6, 30, False), (20, 43.5, False)]
)
def test_the_inside_shows_in_an_outline_and_near_it(x: float, y: float, shown: bool) -> None:
    @njit
    def state_of(outline, reach, x, y):  # type: ignore[no-untyped-def]
        state = np.int32(0)
        for n in range(len(outline)):
            edge = np.concatenate((outline[n], outline[(n + 1) % len(outline)]))
            state = beside_edge(edge, reach, x, y, state)
        return state

    assert bool(state_of(SQUARE, np.float32(3), np.float32(x), np.float32(y))) is shown


def test_the_lids_throw_their_shadow_on_the_eyeball() -> None:
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([50 - 30 * np.cos(turns), 40 + 12 * np.sin(turns)], 1).astype(np.float32)
    light = lid_shade(ring, 200.0, (80, 100))
    assert light[29, 50] < light[40, 50] > light[51, 50]
    assert light[29, 50] < light[51, 50]
    assert rims_of(ring, 200.0).width == pytest.approx(60, abs=0.1)
