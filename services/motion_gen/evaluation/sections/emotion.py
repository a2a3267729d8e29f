"""Emotions at full strength: are they read back, and do the lips hold?

Two readers. One has never seen the generator: it was shown real people talking with FACS templates
(`training/synthesis`) laid over their tracked faces at 0.6-1.0 of their strength. The other was
shown what the generator makes of another voice with other seeds; it tells whether the classes are
distinct, not whether they are right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.common.motion import ARKIT_DIM, Array
from talkingface.motion_gen.controls import EMOTIONS, Controls
from talkingface.motion_gen.evaluation import mouth, plots, reader
from talkingface.motion_gen.evaluation.bench import ITALIAN_VOICE, Bench
from talkingface.motion_gen.evaluation.curves import Curve
from talkingface.motion_gen.evaluation.recordings import KNOWN, NATURAL, OTHERS
from talkingface.motion_gen.evaluation.sections.lips import opening_score
from talkingface.motion_gen.evaluation.table import Bar, Row
from talkingface.motion_gen.performance import FACE_COLUMNS
from talkingface.motion_gen.training.synthesis import EMOTION_TEMPLATES

READ_BAR = Bar(80.0)
LIPS_LOSS_BAR = Bar(high=0.05)
STRENGTHS = (0.6, 1.0)
COPIES = 4
NOISE = 0.03
TAUGHT_SECONDS, TAUGHT_SEEDS = 20.0, (101, 102)
SETTLE = 1  # windows at the beginning that are left out


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    clips = bench.clips(NATURAL)
    made = {
        name: bench.motions(NATURAL, Controls(emotion={name: 1.0}) if i else None)
        for i, name in enumerate(EMOTIONS)
    }
    shown = [_read(motions) for motions in made.values()]
    halves = [
        _read(bench.motions(NATURAL, Controls(emotion={name: 1.0}, emotion_strength=0.5)))
        for name in EMOTIONS[1:]
    ]
    stranger, familiar = reader.train(_laid_over(bench)), reader.train(_generated(bench))
    rows = [
        _row("read back by a reader of real faces with templates", stranger, shown, READ_BAR),
        _row("read back by a reader of generated faces", familiar, shown, None),
        _row("the same at half strength", stranger, [shown[0], *halves], None),
    ]
    free = opening_score(clips, made["neutral"])
    for name in EMOTIONS[1:]:
        r = opening_score(clips, made[name])
        closed = [float((mouth.opening(m) < mouth.CLOSED_BELOW).mean()) for m in made[name]]
        rows.append(
            Row(
                f"loss of lips' r under full {name}",
                {"generated": free - r},
                "r",
                LIPS_LOSS_BAR,
                digits=3,
                note=f"lips shut in {100 * np.mean(closed):.0f} % of the frames",
            )
        )
    plots.emotions(
        bench.report / "emotions.png",
        {name: np.concatenate(motions)[:, :ARKIT_DIM] for name, motions in made.items()},
    )
    return rows


def _read(motions: Sequence[Array]) -> Curve:
    return np.concatenate([reader.windows(m)[SETTLE:] for m in motions])


def _laid_over(bench: Bench) -> list[Curve]:
    """Real talking faces about their own rest, with each emotion's template."""
    rng = np.random.default_rng(0)
    people = [
        motion[:, :ARKIT_DIM] - np.median(motion[:, :ARKIT_DIM], axis=0)
        for name in (KNOWN, OTHERS)
        for motion in (clip.motion for clip in bench.clips(name))
    ]
    templates = np.zeros((len(EMOTIONS), ARKIT_DIM))
    templates[:, FACE_COLUMNS] = EMOTION_TEMPLATES
    samples = []
    for template in templates:
        faces = []
        for motion in people * COPIES:
            over = motion + rng.uniform(*STRENGTHS) * template
            faces.append(reader.windows(np.clip(over, 0, 1).astype(np.float32)))
        stacked = np.concatenate(faces)
        samples.append(stacked + NOISE * rng.standard_normal(stacked.shape))
    return samples


def _generated(bench: Bench) -> list[Curve]:
    """The generator's own faces: another voice, other seeds, with noise."""
    rng = np.random.default_rng(1)
    sound = bench.voice(ITALIAN_VOICE, 60.0, TAUGHT_SECONDS)[0]
    rows = bench.pipeline.rows([sound] * len(TAUGHT_SEEDS))
    samples = []
    for i, name in enumerate(EMOTIONS):
        controls = Controls(emotion={name: 1.0}) if i else None
        faces = _read(bench.pipeline.motions(rows, controls, TAUGHT_SEEDS))
        samples.append(faces + NOISE * rng.standard_normal(faces.shape))
    return samples


def _row(what: str, read: reader.Reader, shown: Sequence[Curve], bar: Bar | None) -> Row:
    """Mean over the classes of the share of windows that are read right."""
    shares, missed = [], []
    for i, faces in enumerate(shown):
        answers = read(faces)
        shares.append(float((answers == i).mean()))
        wrong = np.bincount(answers, minlength=len(EMOTIONS))
        wrong[i] = 0
        if wrong.any():
            taken = EMOTIONS[int(wrong.argmax())]
            missed.append(f"{EMOTIONS[i]} {100 * shares[-1]:.0f} % (else {taken})")
    return Row(
        what,
        {"generated": 100 * float(np.mean(shares)), "shuffled": 100 / len(EMOTIONS)},
        "% of 7 classes",
        bar,
        digits=0,
        note="; ".join(missed) or "all right",
    )
