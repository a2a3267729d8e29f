"""Blinks, gaze, head, brows, silence, smoothness and seeds, compared with real recordings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.motion import ARKIT_INDEX, ARKIT_NAMES, PITCH
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface_research.motion_gen.evaluation import blinks, gaze, head, mouth, plots, smoothness
from talkingface_research.motion_gen.evaluation.context import ENGLISH_VOICE, EvalContext
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.recordings import (
    KNOWN,
    NATURAL,
    decibels,
    frame_energy,
)
from talkingface_research.motion_gen.evaluation.sections.lips import quiet_jitter
from talkingface_research.report import Bar, Row

STREAMS, STREAM_SECONDS = 4, 120.0
QUICK_STREAMS, QUICK_SECONDS = 2, 60.0
SILENT_SECONDS = 60
SEEDS = 4
RATE_BAR = Bar(10, 33)  # conversation 10.5-32.5, Doughty 2001
DURATION_BAR = Bar(150, 400)
STEP_BAR = Bar(0.5, 1.5)
BROWS = [ARKIT_INDEX[name] for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")]
UPPER_FACE = [i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("brow", "eye"))]


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    long, voices = _long_streams(context)
    silent = _silent_streams(context)
    talking = context.motions(NATURAL)
    real = [clip.motion for clip in context.clips(NATURAL)]
    return [
        *_blinks(context, long, silent, real),
        *_gaze(context, talking, long, real),
        *_head(context, talking, long, voices),
        *_brows(talking, real),
        *_silence(context, silent),
        *_smoothness(talking, real),
        *_seeds(context),
    ]


def _long_streams(context: EvalContext) -> tuple[list[Float32Array], list[Curve]]:
    """Minutes of a held-out voice with several seeds, and the level of the voice."""
    count, seconds = (QUICK_STREAMS, QUICK_SECONDS) if context.quick else (STREAMS, STREAM_SECONDS)
    audio = [context.voice(ENGLISH_VOICE, i * seconds, seconds)[0] for i in range(count)]
    motions = context.pipeline.motions(context.pipeline.rows(audio), seeds=range(count))
    return motions, [decibels(frame_energy(one)) for one in audio]


def _silent_streams(context: EvalContext) -> list[Float32Array]:
    """Minutes of silence with several seeds."""
    audio = [np.zeros(SILENT_SECONDS * SAMPLE_RATE, np.float32)] * SEEDS
    return context.pipeline.motions(context.pipeline.rows(audio), seeds=range(SEEDS))


def _seconds(motions: Sequence[Float32Array]) -> float:
    return sum(len(motion) for motion in motions) / MOTION_FPS


def _blinks(
    context: EvalContext,
    long: list[Float32Array],
    silent: list[Float32Array],
    real: list[Float32Array],
) -> list[Row]:
    made = [blinks.find(blinks.lids(m)) for m in long]
    idle = [blinks.find(blinks.lids(m)) for m in silent]
    true = [blinks.find(blinks.lids(m)) for m in real]

    def joined(which: str, found: Sequence[blinks.Blinks]) -> Curve:
        return np.concatenate([getattr(one, which) for one in found])

    duration, true_duration = 1000 * joined("duration", made), 1000 * joined("duration", true)
    inside = (duration >= DURATION_BAR.low) & (duration <= DURATION_BAR.high)
    intervals = joined("intervals", made)
    distance, limit = blinks.lognormal_distance(intervals)
    speed = {
        column: float(np.median(joined("opening", found) / joined("closing", found)))
        for column, found in (("generated", made), ("real", true))
    }
    plots.blinks(context.report / "blinks.png", intervals, duration, true_duration, long[0])
    return [
        Row(
            "blinks while speaking",
            {
                "generated": blinks.rate(made, _seconds(long)),
                "real": blinks.rate(true, _seconds(real)),
            },
            "a minute",
            RATE_BAR,
            digits=1,
            note=f"{len(duration)} blinks in {_seconds(long):.0f} s",
        ),
        Row(
            "blinks in silence",
            {"generated": blinks.rate(idle, _seconds(silent))},
            "a minute",
            RATE_BAR,
            digits=1,
        ),
        Row(
            "blink duration, median",
            {"generated": float(np.median(duration)), "real": float(np.median(true_duration))},
            "ms",
            DURATION_BAR,
            digits=0,
            note=f"5-95 %: {np.percentile(duration, 5):.0f}-{np.percentile(duration, 95):.0f}; "
            f"real: smoothed in the fit",
        ),
        Row(
            "blink depth, median",
            {
                "generated": float(np.median(joined("depth", made))),
                "real": float(np.median(joined("depth", true))),
            },
            note="people: half of the blinks are complete",
        ),
        Row("blinks of 150-400 ms", {"generated": 100 * float(inside.mean())}, "%", digits=0),
        Row(
            "opening time over closing time",
            speed,
            "",
            Bar(1.0),
            note="people: 1.4-1.5",
        ),
        Row(
            "blink intervals: distance from log-normal (KS)",
            {"generated": distance},
            "",
            Bar(high=limit),
            digits=3,
            note=f"{len(intervals)} intervals, median {np.median(intervals):.1f} s, sigma of the "
            f"log {np.log(intervals).std():.2f}",
        ),
    ]


def _gaze(
    context: EvalContext,
    talking: list[Float32Array],
    long: list[Float32Array],
    real: list[Float32Array],
) -> list[Row]:
    columns = {
        "generated": [gaze.in_camera(m) for m in [*talking, *long]],
        "real": [gaze.in_camera(m) for m in real],
    }
    found = {
        column: [gaze.saccades(track) for track in tracks] for column, tracks in columns.items()
    }
    away = {column: [gaze.averted(track) for track in tracks] for column, tracks in columns.items()}
    sizes = {column: np.concatenate([s.size for s in one]) for column, one in found.items()}
    dwells = {column: np.concatenate([s.dwell for s in one]) for column, one in found.items()}
    lengths = {column: np.concatenate([one[1] for one in found]) for column, found in away.items()}
    minutes = {column: sum(map(len, t)) / MOTION_FPS / 60 for column, t in columns.items()}
    plots.gaze(context.report / "gaze.png", columns["generated"][0], columns["real"][0])

    def each(digits: int, what: str, unit: str, of: dict[str, float], note: str = "") -> Row:
        return Row(what, of, unit, digits=digits, note=note)

    def median(values: dict[str, Curve]) -> dict[str, float]:
        return {k: float(np.median(v)) if len(v) else float("nan") for k, v in values.items()}

    return [
        each(1, "saccades of 2 degrees or more", "a minute",
             {w: len(s) / minutes[w] for w, s in sizes.items()},
             "real speakers read a teleprompter"),
        each(1, "saccade size, median", "degrees", median(sizes),
             "Eyes Alive: mean 7 in talking, most below 15"),
        each(2, "dwell between saccades, median", "s", median(dwells)),
        each(0, "time looking away", "%",
             {w: 100 * float(np.mean([one[0] for one in found])) for w, found in away.items()},
             "more than 5 degrees; people: 1 s in every 5 while speaking"),
        each(2, "looking away, median length", "s", median(lengths)),
    ]  # fmt: skip


def _head(
    context: EvalContext, talking: list[Float32Array], long: list[Float32Array], voices: list[Curve]
) -> list[Row]:
    clips = context.clips(NATURAL)
    made = [head.angles(m) for m in talking]
    real = [head.angles(c.motion) for c in clips]
    lively = {"generated": head.step(made), "real": head.step(real)}
    grid = {
        "generated": head.step([head.angles(m) for m in context.motions(KNOWN)]),
        "real": head.step([head.angles(c.motion) for c in context.clips(KNOWN)]),
    }
    shares = {"generated": head.band_shares(made), "real": head.band_shares(real)}
    plots.head(context.report / "head.png", made, real)
    rows = [
        Row("head step, natural speech", lively, "degrees a frame", digits=3),
        Row(
            "head step against real",
            {"generated": lively["generated"] / lively["real"]},
            "",
            STEP_BAR,
        ),
        Row("head step, known speaker", grid, "degrees a frame", digits=3),
        *(
            Row(
                f"head power in {low:g}-{high:g} Hz",
                {column: 100 * float(found[i]) for column, found in shares.items()},
                "%",
                digits=0,
            )
            for i, (low, high) in enumerate(head.BANDS)
        ),
    ]
    true_levels = [decibels(c.video_energy) for c in clips]
    levels = [decibels(c.energy) for c in clips]
    chance, high = head.chance_coherence(made, levels)
    true_chance, true_high = head.chance_coherence(real, true_levels)
    long_angles = [head.angles(m) for m in long]
    long_chance, long_high = head.chance_coherence(long_angles, voices)
    rows.append(
        Row(
            "head follows speech at 1-2 Hz, natural speech",
            {
                "generated": head.coherence(made, levels),
                "real": head.coherence(real, true_levels),
                "shuffled": chance,
            },
            "coherence",
            note=f"5 % of shuffled above {high:.2f}; of the real head's {true_high:.2f} (mean "
            f"{true_chance:.2f})",
        )
    )
    rows.append(
        Row(
            f"head follows speech at 1-2 Hz, {_seconds(long):.0f} s of a held-out voice",
            {"generated": head.coherence(long_angles, voices), "shuffled": long_chance},
            "coherence",
            note=f"5 % of shuffled above {long_high:.2f}",
        )
    )
    return rows


def _brows(talking: list[Float32Array], real: list[Float32Array]) -> list[Row]:
    def activity(motions: list[Float32Array]) -> float:
        return float(np.mean([m[:, BROWS].mean(axis=1).std() for m in motions]))

    return [
        Row(
            "brow raise, standard deviation",
            {"generated": activity(talking), "real": activity(real)},
            "of full",
            digits=3,
        )
    ]


def _silence(context: EvalContext, silent: list[Float32Array]) -> list[Row]:
    jitter = [1000 * np.abs(np.diff(mouth.opening(m))).mean() for m in silent]
    pauses = [
        quiet_jitter(clip.opening, clip.video_energy)
        for name in (KNOWN, NATURAL)
        for clip in context.clips(name)
    ]
    true = 1000 * float(np.concatenate(pauses).mean())
    shifts = [len(gaze.saccades(gaze.in_camera(m)).size) for m in silent]
    plots.minute(context.report / "silence.png", silent[0])
    return [
        Row(
            "a silent minute: jitter of lips",
            {"generated": float(np.mean(jitter)), "real": true},
            "1/1000 face widths a frame",
            Bar(high=true),
            note="real: in pauses of speech",
        ),
        Row(
            "a silent minute: widest opening",
            {"generated": 1000 * max(float(mouth.opening(m).max()) for m in silent)},
            "1/1000 face widths",
            digits=1,
        ),
        Row(
            "a silent minute: head step",
            {"generated": head.step([head.angles(m) for m in silent])},
            "degrees a frame",
            Bar(0.01),
            digits=3,
        ),
        Row(
            "a silent minute: saccades",
            {"generated": 60 * sum(shifts) / _seconds(silent)},
            "a minute",
            Bar(1.0),
            digits=1,
        ),
    ]


def _smoothness(talking: list[Float32Array], real: list[Float32Array]) -> list[Row]:
    return [
        Row(
            f"roughness of the {what}: jerk over step",
            {
                "generated": smoothness.roughness([m[:, columns] for m in talking]),
                "real": smoothness.roughness([m[:, columns] for m in real]),
            },
            note="real: includes the tracker's error",
        )
        for what, columns in (("face", slice(0, PITCH)), ("head", slice(PITCH, PITCH + 3)))
    ]


def _seeds(context: EvalContext) -> list[Row]:
    """How far motion of the same words with different seeds lies apart, in units of its own
    movement."""
    streams = [context.motions(NATURAL, seed=seed)[0] for seed in range(SEEDS)]
    lips = np.stack([mouth.opening(m) for m in streams])[..., None]
    parts = {
        "upper face": np.stack([m[:, UPPER_FACE] for m in streams]),
        "head": np.stack([head.angles(m) for m in streams]),
        "lips": lips,
    }
    rows: list[Row] = []
    for what, tracks in parts.items():
        apart = [np.sqrt(((a - b) ** 2).mean()) for a, b in combinations(tracks, 2)]
        moves = np.sqrt(tracks.var(axis=1).mean())
        rows.append(
            Row(
                f"seeds: distance of the {what}",
                {"generated": float(np.mean(apart) / (np.sqrt(2) * moves))},
                note="0 = the same, 1 = unrelated" if not rows else "",
            )
        )
    return rows
