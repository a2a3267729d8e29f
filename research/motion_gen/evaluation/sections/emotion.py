"""Emotions at full strength: are they read back, and do the lips hold?

Two readers of coefficients. One has never seen the generator: it was shown real people talking with
FACS templates (`behaviour.emotion`) laid over their tracked faces at 0.6-1.0 of their strength.
The other was shown what the generator makes of another voice with other seeds; it tells whether the
classes are distinct, not whether they are right. With a landmarker at hand a third reads pixels:
the same real faces with templates and the generated ones are drawn on a portrait, and what the
landmarker sees in the former tells what it sees in the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from talkingface.contract.controls import EMOTIONS, Controls
from talkingface.contract.motion import ARKIT_DIM, Array
from talkingface.motion_gen.behaviour.emotion import TEMPLATES
from talkingface.motion_gen.canonical_motion import FACE_COLUMNS
from talkingface_research.motion_gen.evaluation import blinks, mouth, plots, reader
from talkingface_research.motion_gen.evaluation.bench import ENGLISH_VOICE, ITALIAN_VOICE, Bench
from talkingface_research.motion_gen.evaluation.closures import reached
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.phones import BILABIAL
from talkingface_research.motion_gen.evaluation.pictures import Landmarker
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, OTHERS
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.renderer.evaluation.offline_renderer import painter_of
from talkingface_research.report import Bar, Row

READ_BAR = Bar(80.0)
LIPS_LOSS_BAR = Bar(high=0.05)
STRENGTHS = (0.6, 1.0)
COPIES = 4
NOISE = 0.03
TAUGHT_SECONDS, TAUGHT_SEEDS = 20.0, (101, 102)
HALF_SECONDS = 30.0
GROUPS, FRAMES = 8, 4  # of pictures a class: groups of frames that are read together
OPEN_EYES = 0.4
STRIP = (60, 135, 260)  # frames of the first clip that are drawn to be looked at
SETTLE = 1  # windows at the beginning that are left out


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    clips = bench.clips(NATURAL)
    made = {
        name: bench.motions(NATURAL, Controls(emotion={name: 1.0}) if i else None)
        for i, name in enumerate(EMOTIONS)
    }
    shown = [_read(motions) for motions in made.values()]
    sound = bench.voice(ENGLISH_VOICE, 60.0, HALF_SECONDS)[0]
    rows_of_half = bench.pipeline.rows([sound])
    halves = [
        _read(
            bench.pipeline.motions(
                rows_of_half, Controls(emotion={name: 1.0}, emotion_strength=0.5 if i else 0.0)
            )
        )
        for i, name in enumerate(EMOTIONS)
    ]
    stranger, familiar = reader.train(_laid_over(bench)), reader.train(_generated(bench))
    rows = [
        _row("read back by a reader of real faces with templates", stranger, shown, READ_BAR),
        _row("read back by a reader of generated faces", familiar, shown, None),
        _row("the same at half strength", stranger, halves, None),
    ]
    if bench.portrait is not None and bench.landmarker is not None:
        rows.append(_seen(bench, bench.portrait, bench.landmarker, made))
    free, shut = opening_score(clips, made["neutral"]), _closed(bench, made["neutral"])
    for name in EMOTIONS[1:]:
        loss = free - opening_score(clips, made[name])
        rows += [
            Row(f"loss of lips' r under full {name}", {"generated": loss}, "r", LIPS_LOSS_BAR, 3),
            Row(
                f"/p b m/ closed under full {name}",
                {"generated": _closed(bench, made[name])},
                "%",
                digits=0,
                note=f"neutral {shut:.0f}",
            ),
        ]
    plots.emotions(
        bench.report / "emotions.png",
        {name: np.concatenate(motions)[:, :ARKIT_DIM] for name, motions in made.items()},
    )
    return rows


def _closed(bench: Bench, motions: Sequence[Array]) -> float:
    """Share of the natural recordings' /p b m/ in which the lips close, %."""
    found = [
        reached(mouth.opening(motion), clip.phones, BILABIAL, mouth.CLOSED_BELOW)
        for clip, motion in zip(bench.clips(NATURAL), motions, strict=True)
        if clip.phones is not None
    ]
    return 100 * float(np.concatenate(found).mean()) if found else float("nan")


def _seen(
    bench: Bench, portrait: Path, landmarker: Path, made: Mapping[str, Sequence[Array]]
) -> Row:
    """The row read from pixels."""
    paint = painter_of(portrait)
    real = [clip.motion for clip in bench.clips(KNOWN)]
    rng = np.random.default_rng(2)

    def scores(see: Landmarker, motions: Sequence[Array], template: Array | None = None) -> Curve:
        """Mean scores of groups of frames taken evenly from all motions."""
        frames = np.concatenate(motions)
        frames = frames[blinks.lids(frames) < OPEN_EYES]
        frames = frames[np.linspace(0, len(frames) - 1, GROUPS * FRAMES).astype(int)].copy()
        if template is not None:
            frames[:, :ARKIT_DIM] = np.clip(
                frames[:, :ARKIT_DIM] + rng.uniform(*STRENGTHS, (len(frames), 1)) * template, 0, 1
            )
        looked = [see(paint(frame)) for frame in frames]
        groups = [[one for one in looked[i::GROUPS] if one is not None] for i in range(GROUPS)]
        return np.stack([np.mean(group, axis=0) for group in groups if group])

    with closing(Landmarker(landmarker)) as eye:
        taught = [scores(eye, real, template) for template in _templates()]
        shown = [scores(eye, motions) for motions in made.values()]
    plots.faces(
        bench.report / "emotion_faces.png",
        {
            name: [paint(motions[0][i]) for i in STRIP if i < len(motions[0])]
            for name, motions in made.items()
        },
    )
    return _row("read back from pixels by the landmarker", reader.train(taught), shown, READ_BAR)


def _templates() -> Array:
    templates = np.zeros((len(EMOTIONS), ARKIT_DIM), np.float32)
    templates[:, FACE_COLUMNS] = TEMPLATES
    return templates


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
    samples = []
    for template in _templates():
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
