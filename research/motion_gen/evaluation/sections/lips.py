"""Lips against the speaker's own: correlation of opening and width, lag, amplitude, pauses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import ARTICULATION, ARTICULATION_COLUMNS
from talkingface_research.motion_gen.evaluation import mouth, plots
from talkingface_research.motion_gen.evaluation.context import EvalContext, by_rule
from talkingface_research.motion_gen.evaluation.curves import (
    Curve,
    lagged_correlation,
    shifted,
    spread,
)
from talkingface_research.motion_gen.evaluation.recordings import (
    KNOWN,
    NATURAL,
    OTHERS,
    SETS,
    Recording,
    decibels,
)
from talkingface_research.report import Bar, Row

R_BARS = {KNOWN: Bar(0.80), OTHERS: Bar(0.70), NATURAL: Bar(0.55)}
LAG_BAR = Bar(-40, 80)
AMPLITUDE_BAR = Bar(0.8, 1.3)
TURNS = 4  # shifts of clips against each other for the column "shuffled"
QUIET_BELOW_PEAK = 30.0  # dB, from which a frame is a pause
LIP_OPENING = ARTICULATION_COLUMNS.start + ARTICULATION.index("lip_opening")
MS_PER_FRAME = 1000 // MOTION_FPS


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    return [row for name in SETS for row in _set(context, name)]


def score(
    clips: list[Recording], made: list[Curve], real: Callable[[Recording], Curve]
) -> tuple[float, int]:
    """Pooled correlation and lag in frames of curves on the audio clock."""
    return lagged_correlation(made, [real(c) for c in clips], [c.offset for c in clips])


def opening_score(clips: list[Recording], motions: list[Float32Array]) -> float:
    """Pooled correlation of the opening alone."""
    return score(clips, [mouth.opening(m) for m in motions], lambda clip: clip.opening)[0]


def quiet_jitter(opening: Curve, energy: Curve) -> Curve:
    """Changes of the opening from frame to frame in pauses, on one clock."""
    level = decibels(energy[: len(opening)])
    quiet = level < level.max() - QUIET_BELOW_PEAK
    result: Curve = np.abs(np.diff(opening[: len(level)]))[quiet[1:] & quiet[:-1]]
    return result


def _set(context: EvalContext, name: str) -> list[Row]:
    clips, rows, motions = context.clips(name), context.rows(name), context.motions(name)
    rules = context.by_rules(rows)
    title = SETS[name]
    columns: dict[str, list[Float32Array]] = {
        "generated": motions,
        "rules": rules,
    }
    openings = {column: [mouth.opening(m) for m in made] for column, made in columns.items()}
    openings["still"] = [np.zeros(clip.frames) for clip in clips]
    openings["loudness"] = [clip.energy for clip in clips]
    widths = {column: [mouth.width(m) for m in made] for column, made in columns.items()}

    found = {column: score(clips, made, lambda c: c.opening) for column, made in openings.items()}
    wide = {column: score(clips, made, lambda c: c.width)[0] for column, made in widths.items()}
    others: list[float] = []
    other_widths: list[float] = []
    for turn in range(1, min(TURNS, len(clips) - 1) + 1):
        moved = [*motions[turn:], *motions[:turn]]
        others.append(opening_score(clips, moved))
        other_widths.append(score(clips, [mouth.width(m) for m in moved], lambda c: c.width)[0])
    offsets = sorted({clip.offset for clip in clips})
    counted = f"{len(clips)} clips, {sum(c.frames for c in clips) / MOTION_FPS:.0f} s"
    out = [
        Row(
            f"{title}: opening",
            {column: r for column, (r, _) in found.items()} | {"shuffled": _mean(np.array(others))},
            "r",
            R_BARS[name],
            note=f"{counted}; audio {offsets} frames before video",
        ),
        Row(
            f"{title}: lag",
            {"generated": found["generated"][1] * MS_PER_FRAME},
            "ms",
            LAG_BAR,
            digits=0,
        ),
        Row(f"{title}: width", wide | {"shuffled": _mean(np.array(other_widths))}, "r"),
    ]
    opened = [np.asarray(one.features[:, LIP_OPENING], float) for one in rows]
    encoded = [np.pad(c, (0, len(c) % 2), "edge").reshape(-1, 2).mean(axis=1) for c in opened]
    r = score(clips, encoded, lambda c: c.opening)[0]
    note = "one column of the features, by rule from the recognised phones; no face"
    out.append(Row(f"{title}: the encoder's own lip opening", {"rules": r}, "r", note=note))
    known = [(clip, by_rule(clip.phones, clip.frames)) for clip in clips if clip.phones]
    if known:
        r = opening_score([clip for clip, _ in known], [made for _, made in known])
        note = f"{len(known)} clips whose phones are aligned or labelled"
        out.append(Row(f"{title}: rules with the true phones", {"rules": r}, "r", note=note))
    real = spread(clip.opening for clip in clips)
    still_real = np.concatenate([quiet_jitter(c.opening, c.video_energy) for c in clips])
    still_made = np.concatenate(
        [quiet_jitter(o, c.energy) for o, c in zip(openings["generated"], clips, strict=True)]
    )
    amplitudes = {column: spread(openings[column]) / real for column in ("generated", "rules")}
    out += [
        Row(f"{title}: spread of opening against real", amplitudes, "", AMPLITUDE_BAR),
        Row(
            f"{title}: spread of width against real",
            {
                column: spread(widths[column]) / spread(c.width for c in clips)
                for column in ("generated", "rules")
            }
            | {
                "real": spread(mouth.width(c.motion) for c in clips)
                / spread(c.width for c in clips)
            },
            note="real: after the general 3D fit of the face, which training does not use for lips",
        ),
        Row(
            f"{title}: jitter of lips in pauses",
            {"generated": 1000 * _mean(still_made), "real": 1000 * _mean(still_real)},
            "1/1000 face widths a frame",
            Bar(high=1000 * _mean(still_real)),
        ),
    ]
    plots.lips(
        context.report / f"lips_{name}.png",
        clips,
        [shifted(o, c.offset, c.frames) for o, c in zip(openings["generated"], clips, strict=True)],
        [shifted(o, c.offset, c.frames) for o, c in zip(openings["rules"], clips, strict=True)],
    )
    return out


def _mean(values: Curve) -> float:
    return float(values.mean()) if len(values) else float("nan")
