"""The tongue's tip and back raised by the motion: vertices alone, the drawing follows them.

In the face model the tongue moves rigidly with the jaw. Both fields bring it to places in the upper
jaw, whatever the jaw does, so a tip reaches the teeth from any opening.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import TONGUE_TIP_AT_TEETH
from talkingface.renderer.arrays import Float32Array, Int64Array
from talkingface.renderer.compiler import njit
from talkingface.renderer.face.model import FaceModel
from talkingface.renderer.geometry.surface import vertex_normals

# Places that the tongue is raised to: up and forward from the upper incisors' edge, face widths of
# 134 mm; by eye.
AT_TEETH, AT_RIDGE = (-0.005, -0.015), (0.05, -0.06)
AT_PALATE = 0.11  # upwards alone
BLADE = 0.4  # share of the tongue's length, from its root, behind which the tip takes nothing along
UNDERSIDE = 0.1  # of the tip's motion: below, the tongue is tied to the floor of the mouth; by eye
POINTED = 0.45  # share of its width that a raised tip loses; by eye
BACK, BACK_REACH = 0.45, 0.3  # shares of its length: the middle of the back, and 1/e of its hump


class Tongue(NamedTuple):
    """How far a tongue is raised, see `contract.motion`."""

    tip: float  # 0..1
    back: float  # 0..1


AT_REST = Tongue(0.0, 0.0)


class _Fields(NamedTuple):
    """How the tongue's N vertices follow its tip and its back."""

    vertices: Int64Array  # (N,) of the face mesh
    tip: Float32Array  # (N,) 1 at the tip
    back: Float32Array  # (N,) 1 on the middle of the back
    foremost: int  # vertex of the tip
    highest: int  # vertex of the back
    incisors: int  # vertex of the upper incisors' edge


def raise_tongue(vertices: Float32Array, tongue: Tongue, share: float) -> None:
    """Raise the tongue of an unposed mesh (V, 3), in place.

    :param share: how much of it applies, 0..1.
    """
    if tongue != AT_REST:
        _raise(vertices, _fields(), share * tongue.tip, share * tongue.back)


@njit(cache=True, fastmath=True, error_model="numpy")
def _raise(vertices: Float32Array, fields: _Fields, tip: float, back: float) -> None:
    """As `raise_tongue`."""
    edge_y, edge_z = vertices[fields.incisors, 1], vertices[fields.incisors, 2]
    start_y, start_z = vertices[fields.foremost, 1], vertices[fields.foremost, 2]
    highest = vertices[fields.highest, 1]
    # The tip comes up to the teeth and then goes back behind them.
    to_teeth = min(tip / TONGUE_TIP_AT_TEETH, 1.0)
    to_ridge = max(tip - TONGUE_TIP_AT_TEETH, 0.0) / (1 - TONGUE_TIP_AT_TEETH)
    up = edge_y + AT_TEETH[0] + to_ridge * (AT_RIDGE[0] - AT_TEETH[0]) - start_y
    forward = edge_z + AT_TEETH[1] + to_ridge * (AT_RIDGE[1] - AT_TEETH[1]) - start_z
    tip_up, tip_forward = np.float32(to_teeth * up), np.float32(to_teeth * forward)
    back_up = np.float32(back * max(edge_y + AT_PALATE - highest, 0.0))
    narrower = np.float32(POINTED * tip)
    for n in range(len(fields.vertices)):
        v, w = fields.vertices[n], fields.tip[n]
        vertices[v, 0] *= np.float32(1) - narrower * w
        vertices[v, 1] += w * tip_up + fields.back[n] * back_up
        vertices[v, 2] += w * tip_forward


@lru_cache(maxsize=1)
def _fields() -> _Fields:
    model = FaceModel.load()
    vertices = model.part_vertices("tongue")
    position = model.mean[vertices]
    low, high = position.min(0), position.max(0)
    along = (position[:, 2] - low[2]) / (high[2] - low[2])
    height = (position[:, 1] - low[1]) / (high[1] - low[1])
    facing_down = np.maximum(-vertex_normals(model.mean)[vertices, 1], 0)
    tip = np.clip((along - BLADE) / (1 - BLADE), 0, 1) ** 2
    tip *= 1 - (1 - UNDERSIDE) * facing_down
    foremost = along.argmax()
    tip = np.minimum(tip / tip[foremost], 1)
    back = height * np.exp(-(((along - BACK) / BACK_REACH) ** 2))
    teeth = model.part_vertices("teeth_upper")
    edge = (model.mean[teeth, 1] + np.abs(model.mean[teeth, 0])).argmin()
    return _Fields(
        vertices=vertices,
        tip=tip.astype(np.float32),
        back=(back / back.max()).astype(np.float32),
        foremost=int(vertices[foremost]),
        highest=int(vertices[back.argmax()]),
        incisors=int(teeth[edge]),
    )
