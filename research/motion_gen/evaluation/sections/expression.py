"""Rendered frames of many portraits and voices: how much they move, against real people."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import Controls
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import VOICE_ACTIVITY
from talkingface_research.motion_gen.evaluation import features, gallery, theval
from talkingface_research.motion_gen.evaluation.context import EvalContext
from talkingface_research.motion_gen.evaluation.curves import Curve
from talkingface_research.motion_gen.evaluation.features import FEATURES
from talkingface_research.motion_gen.evaluation.recordings import frame_energy
from talkingface_research.motion_gen.evaluation.rendered import photos
from talkingface_research.motion_gen.evaluation.speech_clips import SpeechClip
from talkingface_research.report import Bar, Row

DEVIATION_BARS = {
    "width": Bar(3.0, 4.6),
    "corners": Bar(1.0, 1.6),
    "upper lip": Bar(0.8, 1.3),
    "opening": Bar(2.6, 3.8),
    "chin": Bar(3.5, 5.6),
    "pitch": Bar(3.5, 5.0),
    "yaw": Bar(3.0, 7.0),
    "roll": Bar(2.2, 4.0),
    "brow": Bar(1.4, 2.2),
}
SMOOTH = ("pitch", "yaw", "roll", "brow")  # features whose jerk must not exceed real people's
LOUDNESS_BAR, LOUDNESS_DISTANCE_BAR = Bar(high=0.35), Bar(high=0.15)
THEVAL_BARS = {
    "lip dynamics": Bar(1.55, 2.4),
    "brow dynamics": Bar(0.0054, 0.0075),
    "silent lips": Bar(0.021, 0.031),
    "lip sync": Bar(0.23, 0.29),
    "head motion": Bar(7.0, 14.0),
}
# Mean score of the leaderboard's best system over the same five metrics, Hallo2.
BOARD_BEST = 0.799
EVERY = 2  # every second voice, for other settings of expressivity
SETTINGS = {"calm": Controls(expressivity=0.0), "lively": Controls(expressivity=2.0)}
SPEAKING = 0.5  # voice activity from which a row is speech


@dataclass(frozen=True)
class Clip:
    """One voice on one face: landmarks, level and speech activity on one clock."""

    landmarks: Float32Array  # (T, 478, 3)
    level: Curve  # (T,) dB
    energy: Curve  # (T,) as THEval measures it
    speaking: NDArray[np.bool_]  # (T,)

    @property
    def theval(self) -> dict[str, float]:
        """Its five metrics."""
        return theval.metrics(self.landmarks, self.energy, self.speaking)


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section; none without portraits, natural speech and a landmarker."""
    faces = photos(context.portraits) if context.portraits else []
    if not (faces and context.landmarker and context.natural):
        print(
            "expression is left out: it needs --landmarker, --portraits and natural speech in "
            "--tracking or --speech",
            file=sys.stderr,
        )
        return []
    voices = context.natural
    shown = [faces[i % len(faces)] for i in range(len(voices))]
    some = range(0, len(voices), EVERY)
    rows = context.pipeline.rows([voice.audio for voice in voices])
    seeds = list(range(len(voices)))
    motions = context.pipeline.motions(rows, None, seeds)
    columns = {
        "generated": [
            make_clip(voice, context.readback.landmarks(face, motion[: voice.frames]), one.speech)
            for voice, face, motion, one in zip(voices, shown, motions, rows, strict=True)
        ]
    }
    for column, controls in SETTINGS.items():
        made = context.pipeline.motions([rows[i] for i in some], controls, [seeds[i] for i in some])
        columns[column] = [
            make_clip(
                voices[i],
                context.readback.landmarks(shown[i], motion[: voices[i].frames]),
                rows[i].speech,
            )
            for i, motion in zip(some, made, strict=True)
        ]
    own = [i for i, voice in enumerate(voices) if voice.landmarks is not None]
    columns["real"] = [
        make_clip(voices[i], landmarks, rows[i].speech)
        for i in own
        if (landmarks := voices[i].landmarks) is not None
    ]
    columns["still"] = [
        dataclasses.replace(clip, landmarks=np.repeat(clip.landmarks[:1], len(clip.level), axis=0))
        for clip in columns["generated"]
    ]
    tracks = {column: _tracks(clips) for column, clips in columns.items()}
    levels = {column: [clip.level for clip in clips] for column, clips in columns.items()}
    counted = (
        f"{len(voices)} voices on {len(set(shown))} portraits, "
        f"{sum(v.frames for v in voices) / MOTION_FPS:.0f} s; {len(own)} of them with video"
    )
    (context.report / "expression.json").write_text(
        json.dumps(
            {column: statistics(tracks[column], levels[column]) for column in columns}, indent=1
        )
        + "\n"
    )
    gallery.draw(context, voices, shown, motions, columns["generated"], tracks)
    return [
        *_deviations(tracks, counted),
        *_loudness(tracks, levels, own),
        *_jerks(tracks),
        *_theval(columns),
    ]


def make_clip(voice: SpeechClip, landmarks: Float32Array, speech: Float32Array) -> Clip:
    """A face with the speech that it was recorded with or generated from.

    :param speech: the encoder's speech columns, 50 rows a second
    """
    level = features.loudness(frame_energy(voice.audio))
    active = np.asarray(speech[:, VOICE_ACTIVITY] > SPEAKING)
    speaking = active[: len(active) // 2 * 2].reshape(-1, 2).any(axis=1)
    count = min(len(landmarks), len(level), len(speaking))
    energy = theval.energy_at_frames(voice.audio, SAMPLE_RATE, count)
    return Clip(landmarks[:count], level[:count], energy, speaking[:count])


def statistics(
    tracks: Mapping[str, Sequence[Curve]], levels: Sequence[Curve]
) -> dict[str, dict[str, object]]:
    """All figures of all features, as JSON."""
    out: dict[str, dict[str, object]] = {}
    for name, curves in tracks.items():
        centred = np.concatenate([curve - curve.mean() for curve in curves])
        pooled, lag = features.with_loudness(curves, levels)
        largest, own_lag = features.largest_with_loudness(curves, levels)
        out[name] = {
            "unit": FEATURES[name].unit,
            "std": features.deviation(curves),
            "p5": float(np.percentile(centred, 5)),
            "p95": float(np.percentile(centred, 95)),
            "step": features.step(curves),
            "jerk": features.jerk(curves),
            "bands": features.bands(curves),
            "loudness r, lag ms": [pooled, 1000 * lag / MOTION_FPS],
            "largest loudness r of a clip, lag ms": [largest, 1000 * own_lag / MOTION_FPS],
        }
    return out


def _tracks(clips: Sequence[Clip]) -> dict[str, list[Curve]]:
    found = [features.measured(clip.landmarks) for clip in clips]
    return {name: [one[name] for one in found] for name in FEATURES}


def _deviations(tracks: Mapping[str, Mapping[str, list[Curve]]], counted: str) -> list[Row]:
    out = []
    for name, feature in FEATURES.items():
        spectra = "; ".join(
            f"{column} {' '.join(f'{x:.2f}' for x in features.bands(tracks[column][name]))}"
            for column in ("generated", "real")
            if tracks[column][name]
        )
        out.append(
            Row(
                f"{feature.title}: std",
                {
                    column: features.deviation(of[name])
                    for column, of in tracks.items()
                    if of[name] and column != "still"
                },
                feature.unit,
                DEVIATION_BARS.get(name),
                note=f"bands of {BANDS_TEXT} Hz: {spectra}",
            )
        )
    first = out[0]
    return [dataclasses.replace(first, note=f"{counted}; {first.note}"), *out[1:]]


BANDS_TEXT = " ".join(f"{low:g}-{high:g}" for low, high in features.BANDS)


def _loudness(
    tracks: Mapping[str, Mapping[str, list[Curve]]],
    levels: Mapping[str, list[Curve]],
    own: Sequence[int],
) -> list[Row]:
    """:param own: which of the generated clips have a real one"""
    out = []
    turned = [*levels["generated"][1:], *levels["generated"][:1]]
    for name, feature in FEATURES.items():
        made, real = tracks["generated"][name], tracks["real"][name]
        r, lag = features.with_loudness(made, levels["generated"])
        values = {"generated": r, "shuffled": features.with_loudness(made, turned)[0]}
        largest = [features.largest_with_loudness(made, levels["generated"])[0]]
        if real:
            values["real"] = features.with_loudness(real, levels["real"])[0]
            largest.append(features.largest_with_loudness(real, levels["real"])[0])
        note = f"lag {1000 * lag // MOTION_FPS} ms; mean of each clip's largest "
        note += ", real ".join(f"{x:+.2f}" for x in largest)
        bar = LOUDNESS_BAR if name == "opening" else None
        out.append(Row(f"{feature.title}: with loudness, 0.3-2 Hz", values, "r", bar, note=note))
    if own:
        made = [tracks["generated"]["opening"][i] for i in own]
        own_levels = [levels["generated"][i] for i in own]
        real = tracks["real"]["opening"]
        apart = abs(
            features.with_loudness(made, own_levels)[0]
            - features.with_loudness(real, levels["real"])[0]
        )
        each = [
            abs(features.with_loudness([a], [b])[0] - features.with_loudness([c], [d])[0])
            for a, b, c, d in zip(made, own_levels, real, levels["real"], strict=True)
        ]
        note = f"speakers with video, end to end; clip by clip {np.mean(each):.2f}"
        out.append(
            Row(
                "inner lip opening: with loudness, distance from the speakers' own",
                {"generated": apart},
                "r",
                LOUDNESS_DISTANCE_BAR,
                note=note,
            )
        )
    return out


def _jerks(tracks: Mapping[str, Mapping[str, list[Curve]]]) -> list[Row]:
    out = []
    for name, feature in FEATURES.items():
        values = {
            column: features.jerk(of[name])
            for column, of in tracks.items()
            if of[name] and column != "still"
        }
        bar = Bar(high=values["real"]) if name in SMOOTH and "real" in values else None
        out.append(Row(f"{feature.title}: jerk", values, f"{feature.unit} a frame^3", bar, 3))
    return out


def _theval(columns: Mapping[str, Sequence[Clip]]) -> list[Row]:
    found = {
        column: theval.mean([clip.theval for clip in clips]) for column, clips in columns.items()
    }
    found = {column: values for column, values in found.items() if columns[column]}
    quiet = sum(int(theval.silences(clip.speaking).sum()) for clip in columns["generated"])
    notes = {
        "lip dynamics": f"faces {theval.FACE_PIXELS:.0f} px wide",
        "silent lips": f"{quiet / MOTION_FPS:.1f} s of silence by the encoder's voice activity",
        "head motion": "angles by a rigid fit, so compare with real clips",
    }
    out = [
        Row(
            f"THEval: {name}",
            {column: values[name] for column, values in found.items()},
            "",
            THEVAL_BARS[name],
            4,
            f"board's real videos {real:.4f}" + (f"; {notes[name]}" if name in notes else ""),
        )
        for name, real in theval.BOARD_REAL.items()
    ]
    if "real" not in found:
        return out
    against = {
        "the board's real videos (head: real clips)": theval.BOARD_REAL
        | {"head motion": found["real"]["head motion"]},
        "these real clips": found["real"],
    }
    for what, real in against.items():
        scores = {column: theval.score(values, real) for column, values in found.items()}
        each = ", ".join(f"{name} {x:.2f}" for name, x in scores["generated"].items())
        bar = Bar(BOARD_BEST) if "board" in what else None
        out.append(
            Row(
                f"THEval: mean score against {what}",
                {column: float(np.mean(list(one.values()))) for column, one in scores.items()},
                "",
                bar,
                3,
                f"generated: {each}",
            )
        )
    return out
