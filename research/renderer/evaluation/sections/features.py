"""Whether lips close without a line, whites keep their colour and lids close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation.portrait_run import (
    PortraitMeasurements,
    found,
    median,
)
from talkingface_research.renderer.evaluation.poses import SHUT_EYES, poses
from talkingface_research.report import Bar, Row

TEETH_SHOW = 0.03  # face widths between the lips, from which a photo shows teeth
SHUT_BELOW = 0.008  # face widths between the lips, below which they are closed in a photo
ALIKE = 0.95  # quantile of naturally closed lips below which rendered ones must be
ALIKE_BAR = Bar(90.0)
SHUT_BAR = Bar(95.0)
WHITE_BAR = Bar(high=5.0)
LIDS_SHUT = 0.7  # measured closure; it is 0.8 in a recorded blink, as landmarks keep some height
LIDS_BAR = Bar(95.0)
Values = NDArray[np.float64]


def measure(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    """All rows of the section."""
    visible = [s for s in portraits if s.eyes_visible]
    return [*_lips(portraits), *_whites(visible), *_lids(visible)]


def _lips(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    smiling = [s for s in portraits if s.figures["opening"]["photo"] > TEETH_SHOW]
    smiling = [s for s in smiling if "shut" in s.figures["gap"]]
    natural_portraits = [s for s in portraits if s.figures["opening"]["photo"] < SHUT_BELOW]
    rows = []
    for figure, what, unit, bar in (
        ("gap", "gap left between closed lips of photos that show teeth", "", SHUT_BAR),
        ("dark line", "dark line between these lips", " as if black", ALIKE_BAR),
        ("light line", "light line between these lips", " as if twice as light", ALIKE_BAR),
    ):
        rendered = _values(smiling, figure, "shut")
        natural = _values(natural_portraits, figure, "photo")
        if not len(rendered) or not len(natural):
            continue
        limit = float(np.quantile(natural, ALIKE))
        worst = smiling[int(rendered.argmax())].name
        rows += [
            Row(
                what,
                {
                    "generated": 100 * float(np.median(rendered)),
                    "real": 100 * float(np.median(natural)),
                },
                f"% of the face's width{unit}, median",
                note=f"{len(rendered)} portraits; real: {len(natural)} photos with closed lips; "
                f"worst {100 * rendered.max():.2f} ({worst})",
            ),
            Row(
                f"{what}: like naturally closed lips",
                {
                    "generated": 100 * float((rendered <= limit).mean()),
                    "real": 100 * ALIKE,
                },
                "%",
                bar,
                digits=0,
                note=f"at most {100 * limit:.2f}, as {100 * ALIKE:.0f} % of those photos",
            ),
        ]
    return rows


def _whites(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    sideways = [pose.name for pose in poses() if pose.hard and pose.axis == "gaze yaw"]
    vertical = [pose.name for pose in poses() if pose.hard and pose.axis == "gaze pitch"]
    apart = found(portraits, "white", sideways)
    worst, where = max(apart, default=(np.nan, "none"))
    lighter = median(found(portraits, "white light", sideways))
    shaded = median(found(portraits, "white", vertical))
    return [
        Row(
            "whites of eyes that look sideways, from those at rest",
            {"generated": median(apart), "real": median(found(portraits, "white", ["photo"]))},
            "CIE Lab, median",
            WHITE_BAR,
            digits=1,
            note=f"real: the photo's two eyes from one another; lighter by {lighter:.1f}; "
            f"up or down, where lids shade them, {shaded:.1f}; "
            f"worst {worst:.0f} ({where})",
        ),
        Row(
            "iris that looks sideways, match of its pixels",
            {"generated": median(found(portraits, "iris", sideways))},
            "r, median",
            note="lids that cover other parts of it count against it",
        ),
    ]


def _lids(portraits: Sequence[PortraitMeasurements]) -> list[Row]:
    if not portraits:
        return []
    shut = [value for value, _ in found(portraits, "shut", [SHUT_EYES])]
    left = found(portraits, "contrast", [SHUT_EYES])
    worst, where = max(left, default=(np.nan, "none"))
    return [
        Row(
            f"closed eyes with a measured closure of at least {LIDS_SHUT}",
            {"generated": 100 * float(np.mean([value >= LIDS_SHUT for value in shut]))},
            "%",
            LIDS_BAR,
            digits=0,
            note=f"median {np.median(shut):.2f}",
        ),
        Row(
            "contrast left where the open eye was",
            {"generated": median(left), "static": 1.0},
            "of the open eye's, median",
            note=f"worst {worst:.2f} ({where})",
        ),
    ]


def _values(portraits: Sequence[PortraitMeasurements], figure: str, name: str) -> Values:
    return np.array([s.figures[figure][name] for s in portraits])
