"""Closures of /p b m/ and contact of /f v/, compared with the real mouth and the rules."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface_research.motion_gen.evaluation import mouth
from talkingface_research.motion_gen.evaluation.closures import reached, share_below
from talkingface_research.motion_gen.evaluation.context import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    EvalContext,
    by_rule,
)
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.phones import BILABIAL, LABIODENTAL, Phones
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, SETS
from talkingface_research.report import Bar, Row

CLOSED_BAR = Bar(95.0)  # %
PART_SECONDS = 30.0
PARTS, QUICK_PARTS = 6, 3  # of each voice
KINDS = (
    ("/p b m/ closed", BILABIAL, mouth.opening, mouth.CLOSED_BELOW, CLOSED_BAR),
    ("/p b m/ nearly closed", BILABIAL, mouth.opening, mouth.NEARLY_CLOSED_BELOW, None),
    ("/f v/ lip at the teeth", LABIODENTAL, mouth.lip_below_teeth, mouth.TEETH_WITHIN, None),
)


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    out = []
    count = QUICK_PARTS if context.quick else PARTS
    for voice in (ENGLISH_VOICE, ITALIAN_VOICE):
        parts = [context.voice(voice, i * PART_SECONDS, PART_SECONDS) for i in range(count)]
        rows = context.pipeline.rows([audio for audio, _ in parts])
        motions = context.pipeline.motions(rows)
        columns = {
            "generated": motions,
            "shuffled": [*motions[1:], motions[0]],
            "rules": context.by_rules(rows),
        }
        out += _rows(f"held-out voice {voice}", columns, [phones for _, phones in parts], {})
    for name in (KNOWN, NATURAL):
        clips = [i for i, clip in enumerate(context.clips(name)) if clip.phones is not None]
        if not clips:
            continue
        motions, rules = context.motions(name), context.by_rules(context.rows(name))
        recorded = [context.clips(name)[i] for i in clips]
        turned = [*motions[1:], motions[0]]
        columns = {
            "generated": [motions[i] for i in clips],
            "shuffled": [turned[i] for i in clips],
            "rules": [rules[i] for i in clips],
            "real": [clip.motion for clip in recorded],
        }
        phones = [clip.phones for clip in recorded if clip.phones is not None]
        offsets = {"real": [clip.offset for clip in recorded]}
        out += _rows(SETS[name], columns, phones, offsets)
    return out


def _rows(
    title: str,
    columns: dict[str, list[Float32Array]],
    phones: list[Phones],
    offsets: dict[str, list[int]],
) -> list[Row]:
    """The rows of one set of clips.

    :param offsets: frames by column, where it is not on the audio clock
    """
    out = []
    for what, members, gap_of, below, bar in KINDS:
        shares, count = {}, 0
        gaps: dict[str, list[Curve]] = {}
        for column, motions in columns.items():
            gaps[column] = [gap_of(motion) for motion in motions]
            late = offsets.get(column, [0] * len(motions))
            found = np.concatenate(
                [
                    reached(gap, one, members, below, offset)
                    for gap, one, offset in zip(gaps[column], phones, late, strict=True)
                ]
            )
            shares[column], count = 100 * float(found.mean()) if len(found) else np.nan, len(found)
        if not count:
            continue
        known = [
            reached(gap_of(by_rule(one, len(m))), one, members, below)
            for one, m in zip(phones, columns["generated"], strict=True)
        ]
        note = f"{count}; rules with the true phones {100 * np.concatenate(known).mean():.0f} %"
        out.append(Row(f"{title}: {what}", shares, "%", bar, digits=0, note=note))
        chance = {column: 100 * share_below(gap, below) for column, gap in gaps.items()}
        out.append(Row(f"{title}: share of all frames", chance, "%", digits=0))
    return out
