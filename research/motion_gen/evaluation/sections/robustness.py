"""Lips under noise, music, babble and other pitches."""

from __future__ import annotations

from talkingface_research.motion_gen.evaluation import corruptions
from talkingface_research.motion_gen.evaluation.context import EvalContext
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, SETS
from talkingface_research.motion_gen.evaluation.sections.lips import opening_score
from talkingface_research.report import Bar, Row

FALL_BAR = Bar(high=0.1)
WITHOUT_BAR = ("babble",)  # corruptions that are measured, but not judged
EVERY = 3  # every third of the known speaker's clips
BABBLE_VOICES = ("flite_awb", "flite_slt", "ked", "piper_joe")


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    others = [context.voice(name, 20.0, 30.0)[0] for name in BABBLE_VOICES]
    kinds = corruptions.kinds(others)
    rows = []
    for name, step in ((NATURAL, 1), (KNOWN, EVERY)):
        clips = context.clips(name)[::step]
        audio = [clip.audio for clip in clips]
        every = list(audio)
        for change in kinds.values():
            every += [change(one) for one in audio]
        motions = context.pipeline.motions(context.pipeline.rows(every))
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
                    None if kind.startswith(WITHOUT_BAR) else FALL_BAR,
                    digits=3,
                    note=f"r {r:.2f}",
                )
            )
    return rows
