"""Lips behind noise, music, other voices and other pitches."""

from __future__ import annotations

from talkingface_research.motion_gen.evaluation import corruptions
from talkingface_research.motion_gen.evaluation.bench import Bench
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, SETS
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.report import Bar, Row

FALL_BAR = Bar(high=0.1)
BEYOND_THE_BAR = ("babble",)  # measured without one
EVERY = 3  # of the known speaker's clips
TALKERS = ("flite_awb", "flite_slt", "ked", "piper_joe")


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    others = [bench.voice(name, 20.0, 30.0)[0] for name in TALKERS]
    kinds = corruptions.kinds(others)
    rows = []
    for name, step in ((NATURAL, 1), (KNOWN, EVERY)):
        clips = bench.clips(name)[::step]
        sounds = [clip.audio for clip in clips]
        every = list(sounds)
        for change in kinds.values():
            every += [change(sound) for sound in sounds]
        motions = bench.pipeline.motions(bench.pipeline.rows(every))
        count = len(clips)
        clean = opening_score(clips, motions[:count])
        rows.append(Row(f"{SETS[name]}: clean", {"generated": clean}, "r", digits=3))
        for i, kind in enumerate(kinds, 1):
            r = opening_score(clips, motions[i * count : (i + 1) * count])
            rows.append(
                Row(
                    f"{SETS[name]}: fall with {kind}",
                    {"generated": clean - r},
                    "r",
                    None if kind.startswith(BEYOND_THE_BAR) else FALL_BAR,
                    digits=3,
                    note=f"r {r:.2f}",
                )
            )
    return rows
