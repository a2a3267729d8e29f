"""Another language, and singing: does the mouth move sensibly?"""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS, ROW_RATE
from talkingface.contract.speech_features import VOICE_ACTIVITY
from talkingface_research.motion_gen.evaluation import corruptions, mouth, plots, singing
from talkingface_research.motion_gen.evaluation.bench import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    Bench,
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
SLOWER, SUNG_HIGHER = 2.5, 3  # times, semitones
# Nobody has measured this mouth's true opening: natural speakers' spread is the yardstick.
SPREAD_BAR = Bar(0.5, 1.5)


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    return [*_language(bench), *_drawn_out(bench), *_song(bench)]


def _language(bench: Bench) -> list[Row]:
    real = spread([clip.opening for clip in bench.clips(NATURAL)])
    rows = []
    for title, voice in (("English", ENGLISH_VOICE), ("Italian", ITALIAN_VOICE)):
        sound, phones = bench.voice(voice, 100.0, SECONDS)
        motion = bench.pipeline.motions(bench.pipeline.rows([sound]))[0]
        gap, energy = mouth.opening(motion), frame_energy(sound)
        rule = mouth.opening(by_rule(phones, len(motion)))
        turned = np.roll(gap, len(gap) // 2)
        rows += [
            Row(
                f"{title}, unheard voice: spread of opening against natural speakers'",
                {"generated": spread([gap]) / real, "rules": spread([rule]) / real},
                "",
                SPREAD_BAR,
                note="rules: with the true phones",
            ),
            Row(
                f"{title}, unheard voice: opening against the rules with the true phones",
                {
                    way: lagged_correlation([track], [rule], [0])[0]
                    for way, track in (
                        ("generated", gap), ("shuffled", turned), ("loudness", energy),
                    )
                },
                "r",
            ),
        ]  # fmt: skip
        plots.voice(bench.report / f"voice_{title.lower()}.png", gap, rule, energy, phones)
    return rows


def _drawn_out(bench: Bench) -> list[Row]:
    """Speech with the held vowels of a slow song, against the speaker's own lips as slowed down."""
    clips = bench.clips(NATURAL)
    sounds = [
        corruptions.shifted(corruptions.stretched(c.audio, SLOWER), SUNG_HIGHER) for c in clips
    ]
    motions = bench.pipeline.motions(bench.pipeline.rows(sounds))
    hurried = []
    for clip, motion in zip(clips, motions, strict=True):
        frame = np.round(np.arange(len(clip.opening)) * SLOWER).astype(int)
        hurried.append(motion[np.minimum(frame, len(motion) - 1)])
    gaps = [mouth.opening(motion) for motion in hurried]
    title = f"natural speech {SUNG_HIGHER} semitones up, drawn out {SLOWER} times"
    turned = [np.roll(motion, len(motion) // 2, axis=0) for motion in hurried]
    return [
        Row(
            f"{title}: opening",
            {
                "generated": opening_score(clips, hurried),
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


def _song(bench: Bench) -> list[Row]:
    sound, notes = singing.scale()
    rows = bench.pipeline.rows([sound])
    motion = bench.pipeline.motions(rows)[0]
    gap = mouth.opening(motion)
    active = rows[0].speech[:, VOICE_ACTIVITY] > 0.5
    sung = [active[round(n.start * ROW_RATE) : round(n.end * ROW_RATE)] for n in notes]
    held = [_middle(motion, note) for note in notes]
    opened = np.array([mouth.opening(part).mean() for part in held])
    wide = np.array([mouth.width(part).mean() for part in held])
    rests = gap[: MOTION_FPS // 3]
    plots.song(bench.report / "singing.png", motion, notes, frame_energy(sound))
    return [
        Row(
            "sung vowels: taken for a voice",
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


def _middle(motion: Array, note: singing.Note) -> Array:
    """The frames of a note without its beginning and end."""
    length = note.end - note.start
    first, last = note.start + 0.3 * length, note.end - 0.2 * length
    return motion[round(first * MOTION_FPS) : round(last * MOTION_FPS)]
