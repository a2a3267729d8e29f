"""Whether motion follows the controls, how fast, and whether the lips keep their quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import Controls
from talkingface.contract.motion import DISTANCE, PITCH, ROLL
from talkingface.contract.rates import MOTION_FPS
from talkingface_research.motion_gen.evaluation import blinks, gaze, head, mouth, plots
from talkingface_research.motion_gen.evaluation.context import ENGLISH_VOICE, EvalContext
from talkingface_research.motion_gen.evaluation.curves import Curve, spread
from talkingface_research.motion_gen.evaluation.pipeline import Rows
from talkingface_research.motion_gen.evaluation.recordings import NATURAL
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.report import Bar, Row

GAZES = ((0.0, 0.0), (10.0, 20.0), (-10.0, -20.0), (15.0, -10.0))
DISTANCES = (1.0, 0.7, 1.5, 1.0)
POSES = ((10.0, 0.0, 0.0), (0.0, 20.0, 0.0), (-8.0, -15.0, 10.0))
STEP_SECONDS = 5.0  # for which each target stays
REACHED_SECONDS = 0.6  # within which a target must be reached
RATES = (0.0, 10.0, 30.0, 60.0)
RATE_SECONDS = 60.0
GAZE_BAR, DISTANCE_BAR = Bar(high=3.0), Bar(high=3.0)
LIPS_LOSS_BAR = Bar(high=0.05)


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    step_frames = int(STEP_SECONDS * MOTION_FPS)
    seconds = STEP_SECONDS * max(len(GAZES), len(DISTANCES))
    rows = context.pipeline.rows([context.voice(ENGLISH_VOICE, 0.0, seconds)[0]])
    return [
        *_gaze(context, rows, step_frames),
        *_distance(context, rows, step_frames),
        *_pose(context, rows),
        *_head_scale(context, rows),
        *_blink_rate(context),
        *_mouth_scale(context, rows),
        *_lips(context),
    ]


def settled(error: Curve, within: float) -> float:
    """Seconds until the error (T,) and its mean over the next five frames are within a bound;
    infinite where they never are."""
    inside = [
        i for i in range(len(error) - 5) if error[i] <= within and error[i : i + 5].mean() <= within
    ]
    return inside[0] / MOTION_FPS if inside else float("inf")


def _stepped(
    context: EvalContext, rows: Sequence[Rows], steps: Sequence[Controls], step_frames: int
) -> Float32Array:
    changes = [(i * step_frames, step) for i, step in enumerate(steps[1:], 1)]
    return context.pipeline.motions(rows, steps[0], changes=changes)[0]


def _errors(error: Curve, step_frames: int, count: int) -> tuple[float, float]:
    """Mean error after `REACHED_SECONDS` of each step, and the longest time to settle within 3."""
    late = round(REACHED_SECONDS * MOTION_FPS)
    parts = [error[i * step_frames : (i + 1) * step_frames] for i in range(count)]
    return (
        float(np.concatenate([part[late:] for part in parts]).mean()),
        max(settled(part, 3.0) for part in parts[1:]),
    )


def _gaze(context: EvalContext, rows: Sequence[Rows], step_frames: int) -> list[Row]:
    motion = _stepped(context, rows, [Controls(gaze=target) for target in GAZES], step_frames)
    track = gaze.in_camera(motion)
    wanted = np.repeat(np.array(GAZES), step_frames, axis=0)[: len(track)]
    error, settling = _errors(
        np.linalg.norm(track[: len(wanted)] - wanted, axis=1), step_frames, len(GAZES)
    )
    free = gaze.in_camera(context.pipeline.motions(rows)[0])
    ignored = np.linalg.norm(free[: len(wanted)] - wanted, axis=1).mean()
    plots.controlled(context.report / "gaze_control.png", track, wanted)
    return [
        Row("gaze: mean error", {"generated": error, "still": float(ignored)}, "degrees",
            GAZE_BAR, note="still: gaze not controlled"),
        Row("gaze: time to within 3 degrees, worst", {"generated": settling}, "s",
            Bar(high=REACHED_SECONDS)),
    ]  # fmt: skip


def _distance(context: EvalContext, rows: Sequence[Rows], step_frames: int) -> list[Row]:
    motion = _stepped(context, rows, [Controls(head_distance=d) for d in DISTANCES], step_frames)
    wanted = np.repeat(np.array(DISTANCES), step_frames)[: len(motion)]
    error, settling = _errors(
        100 * np.abs(motion[: len(wanted), DISTANCE] / wanted - 1), step_frames, len(DISTANCES)
    )
    return [
        Row("distance: mean error", {"generated": error}, "%", DISTANCE_BAR),
        Row("distance: time to within 3 %, worst", {"generated": settling}, "s",
            Bar(high=REACHED_SECONDS)),
    ]  # fmt: skip


def _pose(context: EvalContext, rows: Sequence[Rows]) -> list[Row]:
    late = round(REACHED_SECONDS * MOTION_FPS)

    def turned(motion: Float32Array) -> Curve:
        return np.asarray(motion[late:, PITCH : ROLL + 1].mean(axis=0), float)

    free = turned(context.pipeline.motions(rows)[0])
    errors = [
        turned(context.pipeline.motions(rows, Controls(pose_offset=pose))[0])
        - free
        - np.array(pose)
        for pose in POSES
    ]
    return [
        Row(
            "pose offset: error of the mean pose",
            {"generated": float(np.linalg.norm(errors, axis=1).mean())},
            "degrees",
            note="against the same stream without offset",
        )
    ]


def _head_scale(context: EvalContext, rows: Sequence[Rows]) -> list[Row]:
    def moved(scale: float) -> float:
        motions = context.pipeline.motions(rows, Controls(head_motion_scale=scale))
        return head.step([head.angles(motion) for motion in motions])

    return [
        Row(
            f"head motion scale {scale:g}: step against natural",
            {"generated": moved(scale) / moved(1.0)},
        )
        for scale in (0.0, 2.0)
    ]


def _blink_rate(context: EvalContext) -> list[Row]:
    rows = context.pipeline.rows([context.voice(ENGLISH_VOICE, 60.0, RATE_SECONDS)[0]])
    out = []
    for wanted in RATES:
        motions = context.pipeline.motions(rows, Controls(blink_rate=wanted), seeds=[1])
        found = [blinks.find(blinks.lids(m)) for m in motions]
        made = blinks.rate(found, sum(map(len, motions)) / MOTION_FPS)
        out.append(Row(f"blink rate {wanted:g}", {"generated": made}, "a minute", digits=1))
    return out


def _mouth_scale(context: EvalContext, rows: Sequence[Rows]) -> list[Row]:
    def moved(scale: float) -> float:
        motions = context.pipeline.motions(rows, Controls(mouth_scale=scale))
        return spread([mouth.opening(motion) for motion in motions])

    return [
        Row(
            f"mouth scale {scale:g}: spread of opening against natural",
            {"generated": moved(scale) / moved(1.0)},
        )
        for scale in (0.5, 1.5)
    ]


def _lips(context: EvalContext) -> list[Row]:
    clips = context.clips(NATURAL)
    free = opening_score(clips, context.motions(NATURAL))
    controlled = {
        "gaze (10, 20)": Controls(gaze=(10.0, 20.0)),
        "gaze (-15, -10)": Controls(gaze=(-15.0, -10.0)),
        "distance 1.5": Controls(head_distance=1.5),
    }
    return [
        Row(
            f"loss of lips' r under {name}",
            {"generated": free - opening_score(clips, context.motions(NATURAL, controls))},
            "r",
            LIPS_LOSS_BAR,
            digits=3,
        )
        for name, controls in controlled.items()
    ]
