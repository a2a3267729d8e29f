"""Another language, and singing: whether the mouth moves plausibly."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS, ROW_RATE
from talkingface.contract.speech_features import VOICE_ACTIVITY
from talkingface_research.motion_gen.evaluation import corruptions, mouth, plots, singing
from talkingface_research.motion_gen.evaluation.context import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    EvalContext,
    by_rule,
)
from talkingface_research.motion_gen.evaluation.curves import (
    correlation,
    lagged_correlation,
    spread,
)
from talkingface_research.motion_gen.evaluation.recordings import NATURAL, frame_energy
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.report import Bar, Row

SECONDS = 40.0
SLOWER, HIGHER = 2.5, 3  # times, semitones
# There is no true opening of these voices: the reference is the spread of natural speakers.
SPREAD_BAR = Bar(0.5, 1.5)


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    return [*_language(context), *_slowed(context), *_song(context)]


def _language(context: EvalContext) -> list[Row]:
    real = spread([clip.opening for clip in context.clips(NATURAL)])
    rows = []
    for title, voice in (("English", ENGLISH_VOICE), ("Italian", ITALIAN_VOICE)):
        audio, phones = context.voice(voice, 100.0, SECONDS)
        motion = context.pipeline.motions(context.pipeline.rows([audio]))[0]
        gap, energy = mouth.opening(motion), frame_energy(audio)
        rule = mouth.opening(by_rule(phones, len(motion)))
        turned = np.roll(gap, len(gap) // 2)
        rows += [
            Row(
                f"{title}, held-out voice: spread of opening against natural speakers'",
                {"generated": spread([gap]) / real, "rules": spread([rule]) / real},
                "",
                SPREAD_BAR,
                note="rules: with the true phones",
            ),
            Row(
                f"{title}, held-out voice: opening against the rules with the true phones",
                {
                    column: lagged_correlation([track], [rule], [0])[0]
                    for column, track in (
                        ("generated", gap), ("shuffled", turned), ("loudness", energy),
                    )
                },
                "r",
            ),
        ]  # fmt: skip
        plots.voice(context.report / f"voice_{title.lower()}.png", gap, rule, energy, phones)
    return rows


def _slowed(context: EvalContext) -> list[Row]:
    """Slowed speech, whose long vowels resemble singing, against the speaker's own lips, slowed as
    much."""
    clips = context.clips(NATURAL)
    audio = [corruptions.shifted(corruptions.stretched(c.audio, SLOWER), HIGHER) for c in clips]
    motions = context.pipeline.motions(context.pipeline.rows(audio))
    resampled = []
    for clip, motion in zip(clips, motions, strict=True):
        frame = np.round(np.arange(len(clip.opening)) * SLOWER).astype(int)
        resampled.append(motion[np.minimum(frame, len(motion) - 1)])
    gaps = [mouth.opening(motion) for motion in resampled]
    title = f"natural speech {HIGHER} semitones up, slowed {SLOWER} times"
    turned = [np.roll(motion, len(motion) // 2, axis=0) for motion in resampled]
    return [
        Row(
            f"{title}: opening",
            {
                "generated": opening_score(clips, resampled),
                "shuffled": opening_score(clips, turned),
            },
            "r",
            note="as slow singing; against the speaker's own lips, slowed down as much",
        ),
        Row(
            f"{title}: spread of opening against real",
            {"generated": spread(gaps) / spread([clip.opening for clip in clips])},
            "",
            SPREAD_BAR,
        ),
    ]


def _song(context: EvalContext) -> list[Row]:
    audio, notes = singing.scale()
    rows = context.pipeline.rows([audio])
    motion = context.pipeline.motions(rows)[0]
    gap = mouth.opening(motion)
    active = rows[0].speech[:, VOICE_ACTIVITY] > 0.5
    sung = [active[round(n.start * ROW_RATE) : round(n.end * ROW_RATE)] for n in notes]
    middles = [_middle(motion, note) for note in notes]
    opened = np.array([mouth.opening(part).mean() for part in middles])
    wide = np.array([mouth.width(part).mean() for part in middles])
    rests = gap[: MOTION_FPS // 3]
    plots.song(context.report / "singing.png", motion, notes, frame_energy(audio))
    return [
        Row(
            "sung vowels: detected as speech",
            {"generated": 100 * float(np.concatenate(sung).mean())},
            "% of the time",
            digits=0,
        ),
        Row(
            "sung vowels: opening, mean",
            {"generated": 1000 * float(opened.mean()), "still": 1000 * float(rests.mean())},
            "1/1000 face widths",
            digits=0,
            note="still: before the song",
        ),
        Row(
            "sung vowels: opening against the vowel's own",
            {"generated": correlation(opened, [note.openness for note in notes])},
            "r",
            note=f"{len(notes)} notes of five vowels, equally loud",
        ),
        Row(
            "sung vowels: iy wider than uw",
            {
                "generated": 1000
                * float(
                    wide[[note.vowel == "iy" for note in notes]].mean()
                    - wide[[note.vowel == "uw" for note in notes]].mean()
                )
            },
            "1/1000 face widths",
            digits=0,
        ),
    ]


def _middle(motion: Float32Array, note: singing.Note) -> Float32Array:
    """The frames of a note without its beginning and end."""
    length = note.end - note.start
    first, last = note.start + 0.3 * length, note.end - 0.2 * length
    return motion[round(first * MOTION_FPS) : round(last * MOTION_FPS)]
