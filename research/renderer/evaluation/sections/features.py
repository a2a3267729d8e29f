"""Lips that shut without a line, whites that stay white, lids that close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from talkingface_research.renderer.evaluation.portrait_run import Sitting, found, median
from talkingface_research.renderer.evaluation.poses import SHUT_EYES, poses
from talkingface_research.report import Bar, Row

TEETH_SHOW = 0.03  # face widths between the lips of a photo that is to shut its mouth
SHUT_BELOW = 0.008  # ... of a photo whose lips are shut
ALIKE = 0.95  # quantile of the naturally shut lips within which drawn ones must fall
ALIKE_BAR = Bar(90.0)
SHUT_BAR = Bar(95.0)
WHITE_BAR = Bar(high=5.0)
LIDS_SHUT = 0.7  # share as read: a recorded blink reads as 0.8, for landmarks keep a little height
LIDS_BAR = Bar(95.0)
Values = NDArray[np.float64]


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    seeing = [s for s in sittings if s.eyes_seen]
    return [*_lips(sittings), *_whites(seeing), *_lids(seeing)]


def _lips(sittings: Sequence[Sitting]) -> list[Row]:
    smiling = [s for s in sittings if s.figures["opening"]["photo"] > TEETH_SHOW]
    smiling = [s for s in smiling if "shut" in s.figures["gap"]]
    calm = [s for s in sittings if s.figures["opening"]["photo"] < SHUT_BELOW]
    rows = []
    for figure, what, unit, bar in (
        ("gap", "gap left between the lips of photos that show teeth", "", SHUT_BAR),
        ("dark line", "dark line where these lips shut", " as if black", ALIKE_BAR),
        ("light line", "light strip there", " as if twice as light", ALIKE_BAR),
    ):
        ours = _values(smiling, figure, "shut")
        natural = _values(calm, figure, "photo")
        if not len(ours) or not len(natural):
            continue
        limit = float(np.quantile(natural, ALIKE))
        worst = smiling[int(ours.argmax())].name
        rows += [
            Row(
                what,
                {
                    "generated": 100 * float(np.median(ours)),
                    "real": 100 * float(np.median(natural)),
                },
                f"% of the face's width{unit}, median",
                note=f"{len(ours)} portraits; real: {len(natural)} photos with shut lips; "
                f"worst {100 * ours.max():.2f} ({worst})",
            ),
            Row(
                f"{what}: like naturally shut lips",
                {
                    "generated": 100 * float((ours <= limit).mean()),
                    "real": 100 * ALIKE,
                },
                "%",
                bar,
                digits=0,
                note=f"at most {100 * limit:.2f}, as {100 * ALIKE:.0f} % of those photos",
            ),
        ]
    return rows


def _whites(sittings: Sequence[Sitting]) -> list[Row]:
    looks = [pose.name for pose in poses() if pose.hard and pose.axis == "gaze yaw"]
    nods = [pose.name for pose in poses() if pose.hard and pose.axis == "gaze pitch"]
    apart = found(sittings, "white", looks)
    worst, where = max(apart, default=(np.nan, "none"))
    lighter = median(found(sittings, "white light", looks))
    return [
        Row(
            "whites of eyes that look sideways, from those at rest",
            {"generated": median(apart), "real": median(found(sittings, "white", ["photo"]))},
            "CIE Lab, median",
            WHITE_BAR,
            digits=1,
            note=f"real: the photo's two eyes from one another; lighter by {lighter:.1f}; "
            f"up or down, where lids shade them, {median(found(sittings, 'white', nods)):.1f}; "
            f"worst {worst:.0f} ({where})",
        ),
        Row(
            "iris that looks sideways, found again by its own pixels",
            {"generated": median(found(sittings, "iris", looks))},
            "r, median",
            note="lids that cover other parts of it count against it",
        ),
    ]


def _lids(sittings: Sequence[Sitting]) -> list[Row]:
    if not sittings:
        return []
    shut = [value for value, _ in found(sittings, "shut", [SHUT_EYES])]
    left = found(sittings, "contrast", [SHUT_EYES])
    worst, where = max(left, default=(np.nan, "none"))
    return [
        Row(
            f"shut eyes whose lids read at least {LIDS_SHUT} shut",
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


def _values(sittings: Sequence[Sitting], figure: str, name: str) -> Values:
    return np.array([s.figures[figure][name] for s in sittings])
