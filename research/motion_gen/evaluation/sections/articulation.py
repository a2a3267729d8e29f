"""Lips in finished pictures of one clean portrait: against the speaker's own, closures, shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface_research.audio_features.training.pack import sound_path
from talkingface_research.motion_gen.evaluation import features, filmed, ridge
from talkingface_research.motion_gen.evaluation.bench import ENGLISH_VOICE, ITALIAN_VOICE, Bench
from talkingface_research.motion_gen.evaluation.closures import reached, share_below
from talkingface_research.motion_gen.evaluation.curves import (
    Curve,
    bootstrap,
    lagged_correlation,
    spread,
)
from talkingface_research.motion_gen.evaluation.filmed import FILMED_NATURAL, Spoken
from talkingface_research.motion_gen.evaluation.mouth import (
    CLOSED_BELOW,
    NEARLY_CLOSED_BELOW,
    measured,
)
from talkingface_research.motion_gen.evaluation.phones import (
    BILABIAL,
    LABIODENTAL,
    Phones,
    aligned,
    labelled,
)
from talkingface_research.motion_gen.evaluation.pipeline import Rows
from talkingface_research.motion_gen.evaluation.recordings import (
    KNOWN,
    NATURAL,
    OTHERS,
    SETS,
    decibels,
    frame_energy,
)
from talkingface_research.motion_gen.evaluation.shapes import (
    LIFTED_BELOW,
    SHAPES,
    TEETH_WITHIN,
    Classifier,
    mouth,
    recalls,
    shown,
)
from talkingface_research.motion_gen.evaluation.store import keep
from talkingface_research.report import Bar, Row

LIPS = ("opening", "width", "upper lip")
R_BARS = {
    KNOWN: (0.75, 0.66, 0.65),
    OTHERS: (0.80, 0.42, 0.60),
    NATURAL: (0.58, 0.50, 0.40),
}
CLOSED_BAR, TEETH_BAR, ABOVE_CHANCE_BAR = Bar(95.0), Bar(90.0), Bar(40.0)
SHAPES_OF_REAL = 0.9
# Clips of GRID's s1: held out, and of the training data for what is taught by real faces.
CLIPS, QUICK_CLIPS = 20, 6
RIDGE_CLIPS, SHAPE_CLIPS = 160, 80
NATURAL_SECONDS, QUICK_SECONDS = 20.0, 8.0  # of each natural recording, quickly of every other
VOICE_SECONDS, VOICE_PIECES = 15.0, 2
TURNS = 4
MS_PER_FRAME = 1000 // MOTION_FPS
SEED = 0
Track = TypeVar("Track", Array, Curve)


@dataclass(frozen=True)
class Kind:
    """A way in which lips are told to be where a consonant wants them."""

    what: str
    members: tuple[int, ...]
    gap: Callable[[Array], Curve]
    below: float
    bar: Bar | None = None
    chance_bar: Bar | None = None


KINDS = (
    Kind(
        "/p b m/ closed", BILABIAL, lambda p: measured(p)[0], CLOSED_BELOW, CLOSED_BAR,
        ABOVE_CHANCE_BAR,
    ),
    Kind("/p b m/ nearly closed", BILABIAL, lambda p: measured(p)[0], NEARLY_CLOSED_BELOW),
    Kind("/f v/ lip at the teeth", LABIODENTAL, lambda p: mouth(p).drop, TEETH_WITHIN, TEETH_BAR),
    Kind("/f v/ lower lip off the jaw", LABIODENTAL, lambda p: mouth(p).lift, LIFTED_BELOW),
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A set of clips and what was drawn from their sound."""

    name: str
    clips: list[Spoken]
    real: list[Array]
    made: list[Array]
    heard: list[Curve]  # `ridge.window` of each
    phones: list[Phones | None]  # on the picture's clock


def measure(bench: Bench) -> list[Row]:
    """All rows of the section; none where the portrait or the reader are missing."""
    if bench.portrait is None or bench.landmarker is None:
        print("articulation is left out: it needs --landmarker and --portrait", file=sys.stderr)
        return []
    face = bench.portrait
    seen = [one for name in SETS if (one := _seen(bench, face, name)).clips]
    taught = filmed.taught(bench.tracking, bench.names, RIDGE_CLIPS)
    out = _lips(seen, _ridge(bench, taught)) if taught else _lips(seen, None)
    out += _voices(bench, face)
    for one in seen:
        known = [i for i, phones in enumerate(one.phones) if phones is not None]
        if known:
            ways = {
                "generated": [one.made[i] for i in known],
                "shuffled": _turned(one.made, 1, known),
                "real": [one.real[i] for i in known],
            }
            out += _closures(SETS[one.name], ways, _told(one, known), judged=False)
    return out + (_shapes(bench, seen, taught[:: RIDGE_CLIPS // SHAPE_CLIPS]) if taught else [])


def _seen(bench: Bench, face: Path, name: str) -> Seen:
    clips = [
        clip
        for one in (FILMED_NATURAL if name == NATURAL else (name,))
        for clip in filmed.load(one, bench.tracking, bench.names)
    ]
    if name == KNOWN:
        count = min(QUICK_CLIPS if bench.quick else CLIPS, len(clips))
        clips = [clips[i * len(clips) // count] for i in range(count)]
    if name == NATURAL and bench.quick:
        clips = clips[::2]
    phones = [_phones(bench, name, clip) for clip in clips]
    if name == NATURAL:
        seconds = QUICK_SECONDS if bench.quick else NATURAL_SECONDS
        clips = [clip.first(seconds) for clip in clips]
        phones = [one and one.between(0.0, seconds) for one in phones]
    rows = bench.pipeline.rows([clip.audio for clip in clips])
    motions = bench.pipeline.motions(rows, None, [SEED] * len(rows)) if rows else []
    return Seen(
        name,
        clips,
        [clip.landmarks for clip in clips if clip.landmarks is not None],
        [
            bench.studio.read(face, _fitting(motion, clip.frames))
            for motion, clip in zip(motions, clips, strict=True)
        ],
        [ridge.window(one, clip.frames) for one, clip in zip(rows, clips, strict=True)],
        phones,
    )


def _fitting(motion: Array, frames: int) -> Array:
    """Motion of as many frames as the clip has pictures."""
    return motion[np.minimum(np.arange(frames), len(motion) - 1)]


def _phones(bench: Bench, name: str, clip: Spoken) -> Phones | None:
    """Phones on the picture's clock, where they can be known."""
    if name == NATURAL:
        path = bench.names.parent / NATURAL / f"{clip.name}.phonemes.json"
        if not path.exists():
            return None
        own = filmed.moved(clip.audio, -1000 * clip.moved)
        found = labelled(path, decibels(frame_energy(own, SAMPLE_RATE // 100)))
    elif name == KNOWN:
        stored = bench.cache / f"phones-{clip.name}.npz"
        if not stored.exists():
            told = aligned(bench.names / f"{clip.name}.mp4")
            if told is None:
                told = Phones(np.zeros(0, np.int8), np.zeros(0))
            keep(stored, phone=told.phone, end=told.end)
        with np.load(stored) as arrays:
            found = Phones(arrays["phone"], arrays["end"])
        if not len(found.phone):
            return None
    else:
        return None
    return Phones(found.phone, found.end + clip.moved)


def _lip_tracks(landmarks: Array) -> Curve:
    """(T, 3) `LIPS` in percent of the face."""
    found = features.measured(landmarks)
    return np.stack([found[name] for name in LIPS], axis=1)


def _ridge(bench: Bench, taught: Sequence[Spoken]) -> ridge.Ridge:
    rows: list[Rows] = bench.pipeline.rows([clip.audio for clip in taught])
    targets = [_lip_tracks(clip.landmarks) for clip in taught if clip.landmarks is not None]
    heard = [ridge.window(one, len(target)) for one, target in zip(rows, targets, strict=True)]
    return ridge.Ridge(heard, targets)


def _lips(seen: Sequence[Seen], heard: ridge.Ridge | None) -> list[Row]:
    out = []
    for one in seen:
        real = [_lip_tracks(points) for points in one.real]
        ways = {"generated": [_lip_tracks(points) for points in one.made]}
        if heard is not None:
            ways["ridge"] = [heard(window) for window in one.heard]
        counted = f"{len(one.clips)} clips, {sum(c.frames for c in one.clips) / MOTION_FPS:.0f} s"
        for i, name in enumerate(LIPS):
            truth = [track[:, i] for track in real]
            tracks = {way: [track[:, i] for track in made] for way, made in ways.items()}
            if name == "opening":
                tracks["loudness"] = [frame_energy(clip.audio) for clip in one.clips]
            zero = [0] * len(truth)
            found = {way: lagged_correlation(made, truth, zero) for way, made in tracks.items()}
            turns = [
                lagged_correlation(_turned(tracks["generated"], turn), truth, zero)[0]
                for turn in range(1, min(TURNS, len(truth) - 1) + 1)
            ]
            values = {way: r for way, (r, _) in found.items()}
            values["shuffled"] = float(np.mean(turns)) if turns else float("nan")
            notes = [f"lag {found['generated'][1] * MS_PER_FRAME} ms"]
            for way in ways:
                low, high = bootstrap(tracks[way], truth, found[way][1])
                size = spread(tracks[way]) / spread(truth)
                notes.append(f"{way} {low:.2f} .. {high:.2f}, size {size:.2f} of real")
            least = max(R_BARS[one.name][i], values.get("ridge", -1.0))
            out.append(
                Row(
                    f"{SETS[one.name]}: {features.FEATURES[name].title}",
                    values,
                    "r",
                    Bar(least),
                    note=f"{counted}; {'; '.join(notes)}",
                )
            )
    return out


def _turned(tracks: Sequence[Track], turn: int, chosen: Sequence[int] | None = None) -> list[Track]:
    """Every clip with another one's track, cut or held to its own length."""
    chosen = range(len(tracks)) if chosen is None else chosen
    out = []
    for i in chosen:
        other = tracks[(i + turn) % len(tracks)]
        at = np.minimum(np.arange(len(tracks[i])), len(other) - 1)
        out.append(other[at])
    return out


def _told(one: Seen, chosen: Sequence[int]) -> list[Phones]:
    return [phones for i in chosen if (phones := one.phones[i]) is not None]


def _voices(bench: Bench, face: Path) -> list[Row]:
    out = []
    count = 1 if bench.quick else VOICE_PIECES
    for voice in (ENGLISH_VOICE, ITALIAN_VOICE):
        if not sound_path(bench.voices, voice).exists():
            print(f"no packed voice {voice}: its closures are left out", file=sys.stderr)
            continue
        pieces = [bench.voice(voice, i * VOICE_SECONDS, VOICE_SECONDS) for i in range(count)]
        motions = bench.pipeline.motions(bench.pipeline.rows([audio for audio, _ in pieces]))
        made = [bench.studio.read(face, motion) for motion in motions]
        late = [np.roll(track, len(track) // 3, axis=0) for track in made]
        ways = {"generated": made, "shuffled": late}
        out += _closures(f"unheard voice {voice}", ways, [p for _, p in pieces], judged=True)
    return out


def _closures(
    title: str, ways: dict[str, list[Array]], phones: Sequence[Phones], judged: bool
) -> list[Row]:
    out = []
    for kind in KINDS:
        gaps = {way: [kind.gap(points) for points in made] for way, made in ways.items()}
        shares: dict[str, float] = {}
        count = 0
        for way, tracks in gaps.items():
            found = np.concatenate(
                [
                    reached(gap, told, kind.members, kind.below)
                    for gap, told in zip(tracks, phones, strict=True)
                ]
            )
            shares[way], count = 100 * float(found.mean()) if len(found) else np.nan, len(found)
        if not count:
            continue
        chance = {way: 100 * share_below(tracks, kind.below) for way, tracks in gaps.items()}
        above = {way: shares[way] - chance[way] for way in shares}
        out += [
            Row(
                f"{title}: {kind.what}", shares, "%", kind.bar if judged else None, 0,
                f"{count} phones",
            ),
            Row(f"{title}: {kind.what}, share of all frames so", chance, "%", None, 0),
            Row(
                f"{title}: {kind.what}, above that share", above, "points",
                kind.chance_bar if judged else None, 0,
            ),
        ]  # fmt: skip
    return out


def _shapes(bench: Bench, seen: Sequence[Seen], taught: Sequence[Spoken]) -> list[Row]:
    told = [(clip, _phones(bench, KNOWN, clip)) for clip in taught]
    lips, labels = [], []
    for clip, phones in told:
        if phones is not None and clip.landmarks is not None:
            lips.append(mouth(clip.landmarks).moved)
            labels.append(shown(phones, clip.frames))
    every = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    if any((every == shape).sum() < 2 for shape in range(len(SHAPES))):
        return []
    read = Classifier(lips, labels)
    out = []
    for one in seen:
        known = [i for i, phones in enumerate(one.phones) if phones is not None]
        if not known:
            continue
        due = [
            shown(phones, one.clips[i].frames)
            for i, phones in zip(known, _told(one, known), strict=True)
        ]
        ways = {
            "generated": [one.made[i] for i in known],
            "real": [one.real[i] for i in known],
            "shuffled": _turned(one.made, 1, known),
        }
        found = {way: _recalls(read, made, due) for way, made in ways.items()}
        values = {way: float(np.mean(list(each.values()))) for way, each in found.items()}
        notes = "; ".join(
            f"{way} {' '.join(f'{name} {x:.2f}' for name, x in found[way].items())}"
            for way in ("generated", "real")
        )
        out.append(
            Row(
                f"{SETS[one.name]}: mouth shape told, balanced accuracy of {len(SHAPES)} shapes",
                values,
                "",
                Bar(SHAPES_OF_REAL * values["real"]),
                note=f"{(np.concatenate(due) >= 0).sum()} frames; taught by {len(lips)} clips; "
                f"{notes}",
            )
        )
    return out


def _recalls(
    read: Classifier, made: Sequence[Array], due: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    told = np.concatenate([read(mouth(points).moved) for points in made])
    return recalls(told, np.concatenate(due))
