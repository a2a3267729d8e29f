"""The plan of a frame, which is all that is computed by vertex, before pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.renderer import geometry
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.model import SKIN_LANDMARKS, FaceModel, rotation_matrix
from talkingface.renderer.geometry.crops import crop_matrices
from talkingface.renderer.geometry.drawn_expressions import drawn_expressions
from talkingface.renderer.geometry.expression import lid_closing, posed_face
from talkingface.renderer.geometry.eyes import RINGS
from talkingface.renderer.geometry.frame import FRAME, affine, bounding_box
from talkingface.renderer.geometry.projection import (
    head_turn,
    plane_map,
    project_vertices,
    torso_map,
)
from talkingface.renderer.geometry.rear_flow import identity_flow, rear_flow, sample_flow, skin_uv
from talkingface.renderer.geometry.surface import mean_landmarks, vertex_normals
from talkingface.renderer.geometry.topology import SKIN

NODES = 89  # of the depth proxy along a side


def camera(pitch: float = 0, yaw: float = 0, roll: float = 0, scale: float = 200) -> Camera:
    """A head in the middle of the frame."""
    return Camera(
        rotation_matrix(pitch, yaw, roll)[None],
        np.full(1, scale, np.float32),
        np.full((1, 2), 256, np.float32),
    )


def flat_proxy(depth: float) -> np.ndarray:
    """A depth proxy (6, N, N) that is a plane which goes with the head."""
    proxy = np.zeros((6, NODES, NODES), np.float32)
    proxy[[0, 1, 5]] = depth
    proxy[3] = 1
    return proxy


@pytest.fixture
def mean_person() -> geometry.PreparedPortrait:
    """What posing takes of the portrait of the mean face without expression."""
    mean = FaceModel.load().mean
    points = camera().project(mean[None])[0]
    person = SimpleNamespace(
        fit=SimpleNamespace(coefficients=np.zeros(ARKIT_DIM, np.float32), camera=camera()),
        eyes=(SimpleNamespace(visible=1.0),) * 2,
        neutral=mean,
        lid_closure=np.zeros((2, *mean.shape), np.float32),
        lip_closure=np.zeros_like(mean),
        uv=np.ascontiguousarray(points[:, :2]),
    )
    return cast(geometry.PreparedPortrait, person)


def test_a_mesh_moves_by_the_sum_of_all_its_expressions(
    mean_person: geometry.PreparedPortrait,
) -> None:
    model, rng = FaceModel.load(), np.random.default_rng(1)
    asked = rng.uniform(0, 1, ARKIT_DIM).astype(np.float32)
    for name in ("eyeBlink", "eyeLookDown"):  # lids close by an offset of their own
        asked[[ARKIT_INDEX[f"{name}Left"], ARKIT_INDEX[f"{name}Right"]]] = 0
    face = posed_face(mean_person, asked, lid_closing(mean_person, asked))
    wanted = model.mean + np.tensordot(asked, drawn_expressions(), 1)
    rest = model.part != FaceModel.load().part[model.part_vertices("tongue")[0]]
    np.testing.assert_allclose(face.vertices[rest], wanted[rest], atol=1e-5)


def test_an_open_mouth_lowers_the_tongue(mean_person: geometry.PreparedPortrait) -> None:
    asked = np.zeros(ARKIT_DIM, np.float32)
    asked[ARKIT_INDEX["jawOpen"]] = 1
    tongue = FaceModel.load().part_vertices("tongue")
    high = (FaceModel.load().mean + drawn_expressions()[ARKIT_INDEX["jawOpen"]])[tongue, 1]
    low = posed_face(mean_person, asked, np.zeros(2, np.float32)).vertices[tongue, 1]
    assert np.ptp(low) < 0.9 * np.ptp(high)
    assert low.mean() < high.mean() - 0.02
    assert (low < high + 1e-6).all()


def test_chosen_vertices_lie_where_all_do(mean_person: geometry.PreparedPortrait) -> None:
    now = camera(10, -20, 5, 180)
    torso = torso_map(mean_person.fit.camera, now)
    everything = project_vertices(mean_person, mean_person.neutral, now, torso)
    chosen = np.arange(7, 4000, 13)
    some = project_vertices(mean_person, mean_person.neutral, now, torso, chosen)
    np.testing.assert_allclose(some, everything[chosen], atol=1e-4)
    head = (FaceModel.load().head_weight == 1) & (FaceModel.load().part == SKIN)
    np.testing.assert_allclose(
        everything[head], now.project(mean_person.neutral[None])[0][head], atol=1e-3
    )


def test_an_unturned_head_leaves_every_pixel_in_its_position() -> None:
    still = camera(5, 20, -3)
    turn, torso = head_turn(still, still), torso_map(still, still)
    flow = rear_flow(flat_proxy(50), turn, torso, np.zeros(2, np.float32))
    np.testing.assert_allclose(flow, identity_flow(), atol=1e-3)
    points = np.random.default_rng(2).uniform(0, FRAME, (100, 2)).astype(np.float32)
    np.testing.assert_allclose(skin_uv(flat_proxy(50), turn, points, points), points, atol=1e-3)


def test_a_plane_that_turns_is_warped_by_its_map() -> None:
    photo, now = camera(), camera(4, 15, -8, 210)
    turn, torso = head_turn(photo, now), torso_map(photo, now)
    # Every pixel of the frame shows the pixel of the plane that the map brings there.
    there = plane_map(photo, now, 40 / 200)
    flow = rear_flow(flat_proxy(40), turn, torso, np.zeros(2, np.float32))
    inner = (slice(40, 88), slice(40, 88))
    np.testing.assert_allclose(affine(there, flow[inner].reshape(-1, 2)).reshape(48, 48, 2),
                               identity_flow()[inner], atol=0.01)  # fmt: skip
    # The inversion ends after ten rounds: what is left of the way is 0.58 to the power of ten.
    here = identity_flow()[inner].reshape(-1, 2)
    left = affine(there, skin_uv(flat_proxy(40), turn, here, here)) - here
    before = affine(there, here) - here
    assert np.abs(left).max() < 0.02 * np.abs(before).max()


def test_the_nearer_half_of_a_folded_proxy_is_seen() -> None:
    photo, now = camera(), camera(0, -40, 0)
    proxy = flat_proxy(0)
    proxy[:2, :, NODES // 2 :] = 120  # a step that covers what is to its left, turned
    flow = rear_flow(proxy, head_turn(photo, now), torso_map(photo, now), np.zeros(2, np.float32))
    # The right half came forward by 77 pixels to the left, where both halves now lie.
    start = 256 - 120 * np.sin(np.deg2rad(40))
    cells = np.arange(48, 62)
    wanted = 256 + (cells * 4 + 1.5 - start) / np.cos(np.deg2rad(40))
    np.testing.assert_allclose(flow[64, cells, 0], wanted, atol=12)


def test_a_flow_is_sampled_between_cells_and_beyond_them() -> None:
    points = np.array([[1.5, 1.5], [3.5, 5.5], [510.5, 2], [-40, 600]], np.float32)
    found = sample_flow(identity_flow(), points)
    wanted = [[1.5, 1.5], [3.5, 5.5], [509.5, 2], [1.5, 509.5]]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_normals_of_the_head_look_outwards() -> None:
    model = FaceModel.load()
    normals = vertex_normals(model.mean)
    used = np.unique(model.triangles)
    np.testing.assert_allclose(np.linalg.norm(normals[used], axis=1), 1, atol=1e-4)
    assert normals[np.argmax(np.where(model.part == SKIN, model.mean[:, 2], -9)), 2] > 0.8


def test_crops_are_upright_and_centred_on_the_eyes() -> None:
    points = camera(0, 0, 20).project(FaceModel.load().mean[None])[0]
    marks = mean_landmarks(points)[:SKIN_LANDMARKS, :2]
    _, (left, size), (right, _) = crop_matrices(points)
    for matrix, ring in ((left, RINGS[1]), (right, RINGS[0])):
        middle = affine(matrix, marks[list(ring)]).mean(0)
        np.testing.assert_allclose(middle, (size - 1) / 2, atol=1e-3)
        across = matrix[:, :2] @ (marks[263] + marks[362] - marks[33] - marks[133])
        assert across[0] > 0
        assert across[1] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("points", "box"),
    [
        ([[10.2, 20.8], [30.0, 40.5]], (8, 18, 33, 44)),
        ([[-50.0, 500.0], [600.0, 900.0]], (0, 498, 512, 512)),
        ([[700.0, 800.0]], (511, 511, 512, 512)),
        ([[-90.0, -80.0]], (0, 0, 1, 1)),
    ],
)
def test_a_box_holds_its_points_and_lies_in_the_frame(
    points: list[list[float]], box: tuple[int, int, int, int]
) -> None:
    assert bounding_box(np.array(points, np.float32), 2) == box
