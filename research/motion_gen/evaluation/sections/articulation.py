"""Lips in rendered frames of one clean portrait: against the speaker's own, closures, shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface_research.audio_features.training.pack import audio_path
from talkingface_research.motion_gen.evaluation import features, ridge, speech_clips
from talkingface_research.motion_gen.evaluation.closures import reached, share_below
from talkingface_research.motion_gen.evaluation.context import (
    ENGLISH_VOICE,
    ITALIAN_VOICE,
    EvalContext,
)
from talkingface_research.motion_gen.evaluation.curves import (
    Curve,
    bootstrap,
    lagged_correlation,
    spread,
)
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
    ShapeClassifier,
    expected,
    mouth,
    recalls,
)
from talkingface_research.motion_gen.evaluation.speech_clips import FILMED_NATURAL, SpeechClip
from talkingface_research.motion_gen.evaluation.store import save_arrays
from talkingface_research.report import Bar, Row

LIPS = ("opening", "width", "upper lip")
R_BARS = {
    KNOWN: (0.75, 0.66, 0.65),
    OTHERS: (0.80, 0.42, 0.60),
    NATURAL: (0.58, 0.50, 0.40),
}
CLOSED_BAR, TEETH_BAR, ABOVE_CHANCE_BAR = Bar(95.0), Bar(90.0), Bar(40.0)  # %
SHAPES_OF_REAL = 0.9  # share of the accuracy on real lips
# Clips of GRID's s1: held out; of the training data, for the ridge and the shape classifier.
CLIPS, QUICK_CLIPS = 20, 6
RIDGE_CLIPS, SHAPE_CLIPS = 160, 80
# Of each natural recording; with --quick of every second one.
NATURAL_SECONDS, QUICK_SECONDS = 20.0, 8.0
VOICE_SECONDS, VOICE_PARTS = 15.0, 2
TURNS = 4  # shifts of clips against each other for the column "shuffled"
MS_PER_FRAME = 1000 // MOTION_FPS
SEED = 0
Track = TypeVar("Track", Float32Array, Curve)


@dataclass(frozen=True)
class Contact:
    """A criterion for lips to be where a consonant wants them."""

    what: str
    members: tuple[int, ...]
    gap: Callable[[Float32Array], Curve]
    below: float
    bar: Bar | None = None
    chance_bar: Bar | None = None


CONTACTS = (
    Contact(
        "/p b m/ closed", BILABIAL, lambda p: measured(p)[0], CLOSED_BELOW, CLOSED_BAR,
        ABOVE_CHANCE_BAR,
    ),
    Contact("/p b m/ nearly closed", BILABIAL, lambda p: measured(p)[0], NEARLY_CLOSED_BELOW),
    Contact(
        "/f v/ lip at the teeth", LABIODENTAL, lambda p: mouth(p).drop, TEETH_WITHIN, TEETH_BAR
    ),
    Contact("/f v/ lower lip off the jaw", LABIODENTAL, lambda p: mouth(p).lift, LIFTED_BELOW),
)  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """A set of clips, and landmarks of the frames rendered from their audio."""

    name: str
    clips: list[SpeechClip]
    real: list[Float32Array]
    made: list[Float32Array]
    inputs: list[Curve]  # `ridge.window` of each
    phones: list[Phones | None]  # on the video clock


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section; none without a portrait and a landmarker."""
    if context.portrait is None or context.landmarker is None:
        print("articulation is left out: it needs --landmarker and --portrait", file=sys.stderr)
        return []
    face = context.portrait
    sets = [one for name in SETS if (one := _rendered(context, face, name)).clips]
    training = speech_clips.training_clips(context.tracking, context.names, RIDGE_CLIPS)
    out = _lips(sets, _ridge(context, training)) if training else _lips(sets, None)
    out += _voices(context, face)
    for one in sets:
        known = [i for i, phones in enumerate(one.phones) if phones is not None]
        if known:
            columns = {
                "generated": [one.made[i] for i in known],
                "shuffled": _turned(one.made, 1, known),
                "real": [one.real[i] for i in known],
            }
            out += _closures(SETS[one.name], columns, _known_phones(one, known), judged=False)
    return out + (
        _shapes(context, sets, training[:: RIDGE_CLIPS // SHAPE_CLIPS]) if training else []
    )


def _rendered(context: EvalContext, face: Path, name: str) -> Rendered:
    clips = [
        clip
        for one in (FILMED_NATURAL if name == NATURAL else (name,))
        for clip in speech_clips.load(one, context.tracking, context.names)
    ]
    if name == KNOWN:
        count = min(QUICK_CLIPS if context.quick else CLIPS, len(clips))
        clips = [clips[i * len(clips) // count] for i in range(count)]
    if name == NATURAL and context.quick:
        clips = clips[::2]
    phones = [_phones(context, name, clip) for clip in clips]
    if name == NATURAL:
        seconds = QUICK_SECONDS if context.quick else NATURAL_SECONDS
        clips = [clip.first(seconds) for clip in clips]
        phones = [one and one.between(0.0, seconds) for one in phones]
    rows = context.pipeline.rows([clip.audio for clip in clips])
    motions = context.pipeline.motions(rows, None, [SEED] * len(rows)) if rows else []
    return Rendered(
        name,
        clips,
        [clip.landmarks for clip in clips if clip.landmarks is not None],
        [
            context.readback.landmarks(face, _cut(motion, clip.frames))
            for motion, clip in zip(motions, clips, strict=True)
        ],
        [ridge.window(one, clip.frames) for one, clip in zip(rows, clips, strict=True)],
        phones,
    )


def _cut(motion: Float32Array, frames: int) -> Float32Array:
    """Motion cut or extended by its last frame to so many frames."""
    result: Float32Array = motion[np.minimum(np.arange(frames), len(motion) - 1)]
    return result


def _phones(context: EvalContext, name: str, clip: SpeechClip) -> Phones | None:
    """Phones on the video clock, where they can be known."""
    if name == NATURAL:
        path = context.names.parent / NATURAL / f"{clip.name}.phonemes.json"
        if not path.exists():
            return None
        own = speech_clips.delayed(clip.audio, -1000 * clip.delay)
        found = labelled(path, decibels(frame_energy(own, SAMPLE_RATE // 100)))
    elif name == KNOWN:
        stored = context.cache / f"phones-{clip.name}.npz"
        if not stored.exists():
            phones = aligned(context.names / f"{clip.name}.mp4")
            if phones is None:
                phones = Phones(np.zeros(0, np.int8), np.zeros(0))
            save_arrays(stored, phone=phones.phone, end=phones.end)
        with np.load(stored) as arrays:
            found = Phones(arrays["phone"], arrays["end"])
        if not len(found.phone):
            return None
    else:
        return None
    return Phones(found.phone, found.end + clip.delay)


def _lip_tracks(landmarks: Float32Array) -> Curve:
    """(T, 3) `LIPS` in percent of the face."""
    found = features.measured(landmarks)
    return np.stack([found[name] for name in LIPS], axis=1)


def _ridge(context: EvalContext, clips: Sequence[SpeechClip]) -> ridge.Ridge:
    rows: list[Rows] = context.pipeline.rows([clip.audio for clip in clips])
    targets = [_lip_tracks(clip.landmarks) for clip in clips if clip.landmarks is not None]
    inputs = [ridge.window(one, len(target)) for one, target in zip(rows, targets, strict=True)]
    return ridge.Ridge(inputs, targets)


def _lips(sets: Sequence[Rendered], predict: ridge.Ridge | None) -> list[Row]:
    out = []
    for one in sets:
        real = [_lip_tracks(points) for points in one.real]
        columns = {"generated": [_lip_tracks(points) for points in one.made]}
        if predict is not None:
            columns["ridge"] = [predict(window) for window in one.inputs]
        counted = f"{len(one.clips)} clips, {sum(c.frames for c in one.clips) / MOTION_FPS:.0f} s"
        for i, name in enumerate(LIPS):
            truth = [track[:, i] for track in real]
            tracks = {column: [track[:, i] for track in made] for column, made in columns.items()}
            if name == "opening":
                tracks["loudness"] = [frame_energy(clip.audio) for clip in one.clips]
            zero = [0] * len(truth)
            found = {
                column: lagged_correlation(made, truth, zero) for column, made in tracks.items()
            }
            turns = [
                lagged_correlation(_turned(tracks["generated"], turn), truth, zero)[0]
                for turn in range(1, min(TURNS, len(truth) - 1) + 1)
            ]
            values = {column: r for column, (r, _) in found.items()}
            values["shuffled"] = float(np.mean(turns)) if turns else float("nan")
            notes = [f"lag {found['generated'][1] * MS_PER_FRAME} ms"]
            for column in columns:
                low, high = bootstrap(tracks[column], truth, found[column][1])
                size = spread(tracks[column]) / spread(truth)
                notes.append(f"{column} {low:.2f} .. {high:.2f}, size {size:.2f} of real")
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
    """Every clip with another one's track, cut or extended to its own length."""
    chosen = range(len(tracks)) if chosen is None else chosen
    out = []
    for i in chosen:
        other = tracks[(i + turn) % len(tracks)]
        at = np.minimum(np.arange(len(tracks[i])), len(other) - 1)
        out.append(other[at])
    return out


def _known_phones(one: Rendered, chosen: Sequence[int]) -> list[Phones]:
    return [phones for i in chosen if (phones := one.phones[i]) is not None]


def _voices(context: EvalContext, face: Path) -> list[Row]:
    out = []
    count = 1 if context.quick else VOICE_PARTS
    for voice in (ENGLISH_VOICE, ITALIAN_VOICE):
        if not audio_path(context.voices, voice).exists():
            print(f"no packed voice {voice}: its closures are left out", file=sys.stderr)
            continue
        parts = [context.voice(voice, i * VOICE_SECONDS, VOICE_SECONDS) for i in range(count)]
        motions = context.pipeline.motions(context.pipeline.rows([audio for audio, _ in parts]))
        made = [context.readback.landmarks(face, motion) for motion in motions]
        rolled = [np.roll(track, len(track) // 3, axis=0) for track in made]
        columns = {"generated": made, "shuffled": rolled}
        out += _closures(
            f"held-out voice {voice}", columns, [phones for _, phones in parts], judged=True
        )
    return out


def _closures(
    title: str, columns: dict[str, list[Float32Array]], phones: Sequence[Phones], judged: bool
) -> list[Row]:
    out = []
    for contact in CONTACTS:
        gaps = {
            column: [contact.gap(points) for points in made] for column, made in columns.items()
        }
        shares: dict[str, float] = {}
        count = 0
        for column, tracks in gaps.items():
            found = np.concatenate(
                [
                    reached(gap, one, contact.members, contact.below)
                    for gap, one in zip(tracks, phones, strict=True)
                ]
            )
            shares[column], count = 100 * float(found.mean()) if len(found) else np.nan, len(found)
        if not count:
            continue
        chance = {
            column: 100 * share_below(tracks, contact.below) for column, tracks in gaps.items()
        }
        above = {column: shares[column] - chance[column] for column in shares}
        out += [
            Row(
                f"{title}: {contact.what}", shares, "%", contact.bar if judged else None, 0,
                f"{count} phones",
            ),
            Row(f"{title}: {contact.what}, share of all frames so", chance, "%", None, 0),
            Row(
                f"{title}: {contact.what}, above that share", above, "points",
                contact.chance_bar if judged else None, 0,
            ),
        ]  # fmt: skip
    return out


def _shapes(
    context: EvalContext, sets: Sequence[Rendered], training: Sequence[SpeechClip]
) -> list[Row]:
    lips, labels = [], []
    for clip in training:
        phones = _phones(context, KNOWN, clip)
        if phones is not None and clip.landmarks is not None:
            lips.append(mouth(clip.landmarks).moved)
            labels.append(expected(phones, clip.frames))
    every = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    if any((every == shape).sum() < 2 for shape in range(len(SHAPES))):
        return []
    classify = ShapeClassifier(lips, labels)
    out = []
    for one in sets:
        known = [i for i, phones in enumerate(one.phones) if phones is not None]
        if not known:
            continue
        due = [
            expected(phones, one.clips[i].frames)
            for i, phones in zip(known, _known_phones(one, known), strict=True)
        ]
        columns = {
            "generated": [one.made[i] for i in known],
            "real": [one.real[i] for i in known],
            "shuffled": _turned(one.made, 1, known),
        }
        found = {column: _recalls(classify, made, due) for column, made in columns.items()}
        values = {column: float(np.mean(list(each.values()))) for column, each in found.items()}
        notes = "; ".join(
            f"{column} {' '.join(f'{name} {x:.2f}' for name, x in found[column].items())}"
            for column in ("generated", "real")
        )
        out.append(
            Row(
                f"{SETS[one.name]}: mouth shape, balanced accuracy of {len(SHAPES)} shapes",
                values,
                "",
                Bar(SHAPES_OF_REAL * values["real"]),
                note=f"{(np.concatenate(due) >= 0).sum()} frames; trained on {len(lips)} clips; "
                f"{notes}",
            )
        )
    return out


def _recalls(
    classify: ShapeClassifier, made: Sequence[Float32Array], due: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    predicted = np.concatenate([classify(mouth(points).moved) for points in made])
    return recalls(predicted, np.concatenate(due))
