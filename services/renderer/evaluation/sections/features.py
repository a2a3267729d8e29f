"""Lips that shut without a line, whites that stay white, lids that close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from talkingface.common.report import Bar, Row
from talkingface.renderer.evaluation.poses import SHUT_EYES, on_axis
from talkingface.renderer.evaluation.reading import AXES
from talkingface.renderer.evaluation.sitting import Sitting

TEETH_SHOW = 0.03  # face widths between the lips of a photo that is to shut its mouth
SHUT_BELOW = 0.008  # ... of a photo whose lips are shut
ALIKE = 0.95  # quantile of the naturally shut lips within which drawn ones must fall
ALIKE_BAR = Bar(90.0)
SHUT_BAR = Bar(95.0)
WHITE_BAR = Bar(high=5.0)
LIDS_SHUT = 0.7  # read from landmarks: a real blink's lids read as no more than this
SMALL = 0.5  # share of the open eye's contrast
Values = NDArray[np.float64]


def measure(sittings: Sequence[Sitting]) -> list[Row]:
    """All rows of the section."""
    return [*_lips(sittings), *_whites(sittings), *_lids(sittings)]


def _lips(sittings: Sequence[Sitting]) -> list[Row]:
    smiling = [
        s for s in sittings if s.figures["opening"]["photo"] > TEETH_SHOW and "shut" in s.figures["gap"]
    ]  # fmt: skip
    calm = [s for s in sittings if s.figures["opening"]["photo"] < SHUT_BELOW]
    rows = []
    for figure, what, unit, bar in (
        ("gap", "gap left between the lips of photos that show teeth", "% of the face's width", SHUT_BAR),
        ("dark line", "dark line where these lips shut", "% of the face's width, as if black", ALIKE_BAR),
        ("light line", "light strip there", "% of the face's width, as if twice as light", ALIKE_BAR),
    ):  # fmt: skip
        ours = _values(smiling, figure, "shut")
        natural = _values(calm, figure, "photo")
        if not len(ours) or not len(natural):
            continue
        limit = float(np.quantile(natural, ALIKE))
        worst = smiling[int(ours.argmax())].name
        rows += [
            Row(
                what,
                {"generated": 100 * float(np.median(ours)), "real": 100 * float(np.median(natural))},
                f"{unit}, median",
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
        ]  # fmt: skip
    return rows


def _whites(sittings: Sequence[Sitting]) -> list[Row]:
    looks = [
        pose.name for axis in ("gaze yaw", "gaze pitch") for pose in on_axis(axis) if pose.hard
    ]
    apart = [
        (s.figures["white"][name], f"{s.name}, {name}")
        for s in sittings
        for name in looks
        if name in s.figures["white"]
    ]
    light = [
        s.figures["white light"][n]
        for s in sittings
        for n in looks
        if n in s.figures["white light"]
    ]
    eyes = [s.figures["white"]["photo"] for s in sittings if "photo" in s.figures["white"]]
    kept = [s.figures["iris"][n] for s in sittings for n in looks if n in s.figures["iris"]]
    worst, where = max(apart, default=(np.nan, "none"))
    return [
        Row(
            "whites of eyes that look aside, from those at rest",
            {"generated": _median([v for v, _ in apart]), "real": _median(eyes)},
            "CIE Lab, median",
            WHITE_BAR,
            digits=1,
            note=f"real: the photo's two eyes from one another; lighter by {_median(light):.1f}; "
            f"worst {worst:.0f} ({where})",
        ),
        Row(
            "iris found again by its own pixels",
            {"generated": _median(kept)},
            "r, median",
            note="lids that cover more or less of it count against it",
        ),
    ]  # fmt: skip


def _lids(sittings: Sequence[Sitting]) -> list[Row]:
    column = list(AXES).index("lids")
    shut = np.array([s.readings[SHUT_EYES][column] for s in sittings if SHUT_EYES in s.readings])
    left = [
        (s.figures["contrast"][SHUT_EYES], s.name)
        for s in sittings
        if SHUT_EYES in s.figures["contrast"]
    ]
    worst, where = max(left, default=(np.nan, "none"))
    return [
        Row(
            f"shut eyes whose lids read at least {LIDS_SHUT} shut",
            {"generated": 100 * float((shut >= LIDS_SHUT).mean()) if len(shut) else np.nan},
            "%",
            digits=0,
            note=f"median {_median(shut):.2f}",
        ),
        Row(
            "contrast left where the open eye was",
            {"generated": _median([v for v, _ in left]), "static": 1.0},
            "of the open eye's, median",
            note=f"worst {worst:.2f} ({where})",
        ),
    ]


def _values(sittings: Sequence[Sitting], figure: str, name: str) -> Values:
    return np.array([s.figures[figure][name] for s in sittings])


def _median(values: Sequence[float] | Values) -> float:
    return float(np.median(values)) if len(values) else float("nan")
