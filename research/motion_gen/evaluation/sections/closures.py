"""Closures of /p b m/ and contact of /f v/, beside the real mouth and the rules."""

from __future__ import annotations

import numpy as np

from talkingface.contract.motion import Array
from talkingface_research.motion_gen.evaluation import mouth
from talkingface_research.motion_gen.evaluation.bench import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    Bench,
    by_rule,
)
from talkingface_research.motion_gen.evaluation.closures import reached, share_below
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.phones import BILABIAL, LABIODENTAL, Phones
from talkingface_research.motion_gen.evaluation.recordings import KNOWN, NATURAL, SETS
from talkingface_research.report import Bar, Row

CLOSED_BAR = Bar(95.0)
PIECE_SECONDS = 30.0
PIECES, QUICK_PIECES = 6, 3
KINDS = (
    ("/p b m/ closed", BILABIAL, mouth.opening, mouth.CLOSED_BELOW, CLOSED_BAR),
    ("/p b m/ nearly closed", BILABIAL, mouth.opening, mouth.NEARLY_CLOSED_BELOW, None),
    ("/f v/ lip at the teeth", LABIODENTAL, mouth.lip_below_teeth, mouth.TEETH_WITHIN, None),
)


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    out = []
    count = QUICK_PIECES if bench.quick else PIECES
    for voice in (ENGLISH_VOICE, ITALIAN_VOICE):
        pieces = [bench.voice(voice, i * PIECE_SECONDS, PIECE_SECONDS) for i in range(count)]
        rows = bench.pipeline.rows([audio for audio, _ in pieces])
        motions = bench.pipeline.motions(rows)
        ways = {
            "generated": motions,
            "shuffled": [*motions[1:], motions[0]],
            "rules": bench.taught(rows),
        }
        out += _rows(f"unheard voice {voice}", ways, [phones for _, phones in pieces], {})
    for name in (KNOWN, NATURAL):
        clips = [i for i, clip in enumerate(bench.clips(name)) if clip.phones is not None]
        if not clips:
            continue
        motions, taught = bench.motions(name), bench.taught(bench.rows(name))
        recorded = [bench.clips(name)[i] for i in clips]
        turned = [*motions[1:], motions[0]]
        ways = {
            "generated": [motions[i] for i in clips],
            "shuffled": [turned[i] for i in clips],
            "rules": [taught[i] for i in clips],
            "real": [clip.motion for clip in recorded],
        }
        phones = [clip.phones for clip in recorded if clip.phones is not None]
        offsets = {"real": [clip.offset for clip in recorded]}
        out += _rows(SETS[name], ways, phones, offsets)
    return out


def _rows(
    title: str,
    ways: dict[str, list[Array]],
    phones: list[Phones],
    offsets: dict[str, list[int]],
) -> list[Row]:
    """The rows of one set of clips.

    :param offsets: by way, where its clock is not the sound's
    """
    out = []
    for what, members, gap_of, below, bar in KINDS:
        shares, count = {}, 0
        gaps: dict[str, list[Curve]] = {}
        for way, motions in ways.items():
            gaps[way] = [gap_of(motion) for motion in motions]
            late = offsets.get(way, [0] * len(motions))
            found = np.concatenate(
                [
                    reached(gap, one, members, below, offset)
                    for gap, one, offset in zip(gaps[way], phones, late, strict=True)
                ]
            )
            shares[way], count = 100 * float(found.mean()) if len(found) else np.nan, len(found)
        if not count:
            continue
        known = [
            reached(gap_of(by_rule(one, len(m))), one, members, below)
            for one, m in zip(phones, ways["generated"], strict=True)
        ]
        note = f"{count}; rules with the true phones {100 * np.concatenate(known).mean():.0f} %"
        out.append(Row(f"{title}: {what}", shares, "%", bar, digits=0, note=note))
        chance = {way: 100 * share_below(gap, below) for way, gap in gaps.items()}
        out.append(Row(f"{title}: all frames so", chance, "%", digits=0))
    return out
