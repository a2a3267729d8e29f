"""Emotions at full strength: whether classifiers recognise them, and whether the lips stay good.

Two classifiers of coefficients. One has never seen the generator: it is trained on real people
talking with FACS templates (`behaviour.emotion`) added to their tracked faces at 0.6-1.0 of their
strength. The other is trained on generated motion of another voice with other seeds; it measures
whether the classes are distinct, not whether they are right. With a landmarker, a third one uses
pixels: real faces with templates and generated faces are rendered on a portrait, and it is trained
on the landmarker's scores of the former and applied to those of the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import EMOTIONS, Controls
from talkingface.contract.motion import ARKIT_DIM
from talkingface.motion_gen.behaviour.emotion import TEMPLATES
from talkingface.motion_gen.canonical_motion import FACE_COLUMNS
from talkingface_research.motion_gen.evaluation import blinks, classifier, mouth, plots
from talkingface_research.motion_gen.evaluation.closures import reached
from talkingface_research.motion_gen.evaluation.context import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    EvalContext,
)
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.landmarker import Landmarker
from talkingface_research.motion_gen.evaluation.phones import BILABIAL
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, OTHERS
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.renderer.evaluation.offline_renderer import renderer_of
from talkingface_research.report import Bar, Row

RECOGNISED_BAR = Bar(80.0)  # %
LIPS_LOSS_BAR = Bar(high=0.05)
STRENGTHS = (0.6, 1.0)  # of the templates
COPIES = 4  # of each real clip, with different strengths
NOISE = 0.03  # standard deviation, added to training samples
TRAINING_SECONDS, TRAINING_SEEDS = 20.0, (101, 102)
HALF_SECONDS = 30.0  # of speech at half strength
GROUPS, FRAMES = 8, 4  # groups of a class, frames of a group that are classified together
OPEN_EYES = 0.4  # lid closure below which a frame is used
STRIP = (60, 135, 260)  # frames of the first clip that are rendered for inspection
SETTLE = 1  # windows at the beginning that are skipped


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    clips = context.clips(NATURAL)
    made = {
        name: context.motions(NATURAL, Controls(emotion={name: 1.0}) if i else None)
        for i, name in enumerate(EMOTIONS)
    }
    generated = [_features(motions) for motions in made.values()]
    audio = context.voice(ENGLISH_VOICE, 60.0, HALF_SECONDS)[0]
    rows_of_half = context.pipeline.rows([audio])
    halves = [
        _features(
            context.pipeline.motions(
                rows_of_half, Controls(emotion={name: 1.0}, emotion_strength=0.5 if i else 0.0)
            )
        )
        for i, name in enumerate(EMOTIONS)
    ]
    by_templates = classifier.train(_with_templates(context))
    by_generated = classifier.train(_generated(context))
    rows = [
        _row("recognised, trained on templates", by_templates, generated, RECOGNISED_BAR),
        _row("recognised, trained on generated faces", by_generated, generated, None),
        _row("recognised at half strength, trained on templates", by_templates, halves, None),
    ]
    if context.portrait is not None and context.landmarker is not None:
        rows.append(_from_pixels(context, context.portrait, context.landmarker, made))
    free, closed = opening_score(clips, made["neutral"]), _closed(context, made["neutral"])
    for name in EMOTIONS[1:]:
        loss = free - opening_score(clips, made[name])
        rows += [
            Row(f"loss of lips' r under full {name}", {"generated": loss}, "r", LIPS_LOSS_BAR, 3),
            Row(
                f"/p b m/ closed under full {name}",
                {"generated": _closed(context, made[name])},
                "%",
                digits=0,
                note=f"neutral {closed:.0f}",
            ),
        ]
    plots.emotions(
        context.report / "emotions.png",
        {name: np.concatenate(motions)[:, :ARKIT_DIM] for name, motions in made.items()},
    )
    return rows


def _closed(context: EvalContext, motions: Sequence[Float32Array]) -> float:
    """Share of the natural recordings' /p b m/ in which the lips close, %."""
    found = [
        reached(mouth.opening(motion), clip.phones, BILABIAL, mouth.CLOSED_BELOW)
        for clip, motion in zip(context.clips(NATURAL), motions, strict=True)
        if clip.phones is not None
    ]
    return 100 * float(np.concatenate(found).mean()) if found else float("nan")


def _from_pixels(
    context: EvalContext,
    portrait: Path,
    landmarker: Path,
    made: Mapping[str, Sequence[Float32Array]],
) -> Row:
    """The row of the classifier of pixels."""
    render = renderer_of(portrait)
    real = [clip.motion for clip in context.clips(KNOWN)]
    rng = np.random.default_rng(2)

    def scores(
        detect: Landmarker, motions: Sequence[Float32Array], template: Float32Array | None = None
    ) -> Curve:
        """Mean scores of groups of frames, evenly from all motions."""
        frames = np.concatenate(motions)
        frames = frames[blinks.lids(frames) < OPEN_EYES]
        frames = frames[np.linspace(0, len(frames) - 1, GROUPS * FRAMES).astype(int)].copy()
        if template is not None:
            frames[:, :ARKIT_DIM] = np.clip(
                frames[:, :ARKIT_DIM] + rng.uniform(*STRENGTHS, (len(frames), 1)) * template, 0, 1
            )
        found = [detect(render(frame)) for frame in frames]
        groups = [[one for one in found[i::GROUPS] if one is not None] for i in range(GROUPS)]
        return np.stack([np.mean(group, axis=0) for group in groups if group])

    with closing(Landmarker(landmarker)) as detect:
        training = [scores(detect, real, template) for template in _templates()]
        generated = [scores(detect, motions) for motions in made.values()]
    plots.faces(
        context.report / "emotion_faces.png",
        {
            name: [render(motions[0][i]) for i in STRIP if i < len(motions[0])]
            for name, motions in made.items()
        },
    )
    return _row(
        "recognised from pixels, by the landmarker's scores",
        classifier.train(training),
        generated,
        RECOGNISED_BAR,
    )


def _templates() -> Float32Array:
    templates = np.zeros((len(EMOTIONS), ARKIT_DIM), np.float32)
    templates[:, FACE_COLUMNS] = TEMPLATES
    return templates


def _features(motions: Sequence[Float32Array]) -> Curve:
    return np.concatenate([classifier.windows(m)[SETTLE:] for m in motions])


def _with_templates(context: EvalContext) -> list[Curve]:
    """Features of real talking faces from their own rest, with each emotion's template."""
    rng = np.random.default_rng(0)
    people = [
        motion[:, :ARKIT_DIM] - np.median(motion[:, :ARKIT_DIM], axis=0)
        for name in (KNOWN, OTHERS)
        for motion in (clip.motion for clip in context.clips(name))
    ]
    samples = []
    for template in _templates():
        faces = []
        for motion in people * COPIES:
            combined = motion + rng.uniform(*STRENGTHS) * template
            faces.append(classifier.windows(np.clip(combined, 0, 1).astype(np.float32)))
        stacked = np.concatenate(faces)
        samples.append(stacked + NOISE * rng.standard_normal(stacked.shape))
    return samples


def _generated(context: EvalContext) -> list[Curve]:
    """Features of generated faces: another voice, other seeds, with noise."""
    rng = np.random.default_rng(1)
    audio = context.voice(ITALIAN_VOICE, 60.0, TRAINING_SECONDS)[0]
    rows = context.pipeline.rows([audio] * len(TRAINING_SEEDS))
    samples = []
    for i, name in enumerate(EMOTIONS):
        controls = Controls(emotion={name: 1.0}) if i else None
        faces = _features(context.pipeline.motions(rows, controls, TRAINING_SEEDS))
        samples.append(faces + NOISE * rng.standard_normal(faces.shape))
    return samples


def _row(
    what: str, classify: classifier.LinearClassifier, samples: Sequence[Curve], bar: Bar | None
) -> Row:
    """Mean over the classes of the share of windows that are classified right."""
    shares, missed = [], []
    for i, faces in enumerate(samples):
        found = classify(faces)
        shares.append(float((found == i).mean()))
        wrong = np.bincount(found, minlength=len(EMOTIONS))
        wrong[i] = 0
        if wrong.any():
            other = EMOTIONS[int(wrong.argmax())]
            missed.append(f"{EMOTIONS[i]} {100 * shares[-1]:.0f} % (else {other})")
    return Row(
        what,
        {"generated": 100 * float(np.mean(shares)), "shuffled": 100 / len(EMOTIONS)},
        "% of 7 classes",
        bar,
        digits=0,
        note="; ".join(missed) or "all right",
    )
