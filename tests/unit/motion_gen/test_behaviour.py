"""The plan of eyes, face and head: its statistics, its relation to the voice, its determinism."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from talkingface.contract.controls import EMOTIONS, Controls
from talkingface.contract.motion import DISTANCE, PITCH, ROLL, YAW, arkit_to_gaze
from talkingface.contract.speech_features import FEATURE_DIM
from talkingface.motion_gen.behaviour import LIDS, BehaviourPlanner, expression, pauses
from talkingface.motion_gen.behaviour.actions import Actions
from talkingface.motion_gen.behaviour.blinks import BlinkPlanner, draw_blink
from talkingface.motion_gen.behaviour.emotion import POSE, TEMPLATES, EmotionPlanner, template
from talkingface.motion_gen.behaviour.gaze import GazePlanner
from talkingface.motion_gen.behaviour.head import HeadPlanner
from talkingface.motion_gen.behaviour.noise import SmoothNoise
from talkingface.motion_gen.behaviour.speech import SILENCE, SpeechTracker
from talkingface.motion_gen.behaviour.state import random_stream
from talkingface.motion_gen.canonical_motion import (
    ARTICULATION,
    CANONICAL_DIM,
    EXPRESSION_LIMIT,
    FACE_COLUMNS,
    FACE_DIM,
    FACE_INDEX,
    compose,
)
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import FRAME_SECONDS, HOP
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.evaluation.smoothness import roughness

CALM = np.zeros(len(EMOTIONS), np.float32)
TALKING = SILENCE._replace(active=True, speaking=True, silence=0.0)
SEEDS = range(3)
# Rows of the speech encoder: voice activity, energy in dBFS, log2 of the pitch in Hz, voicing.
VOICED = np.array([0.95, -30.0, 7.0, 0.9], np.float32)
QUIET = np.array([0.02, -70.0, 0.0, 0.0], np.float32)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Rows (n, 4) of a made-up speaker: phrases of 2 to 4 s with pauses, syllables of uneven
    stress three to five times a second, pitch that rises with stress and falls along a phrase."""
    rng = np.random.default_rng(seed)
    rows = np.tile(QUIET, (int(50 * seconds), 1))
    at = 24
    while at < len(rows):
        end = at + int(50 * rng.uniform(2, 4))
        begin = at
        while at < min(end, len(rows)):
            length = int(50 * rng.uniform(0.18, 0.35))
            stress = rng.choice([0.0, 0.3, 1.0], p=[0.45, 0.25, 0.3])
            part = rows[at : at + length]
            hump = np.sin(np.pi * (np.arange(len(part)) + 0.5) / length)
            part[:, 0] = 0.95
            part[:, 1] = -32 + 14 * stress * hump + 4 * hump
            part[:, 2] = 6.9 + 0.4 * stress * hump - 0.05 * (at - begin) / 50
            part[:, 3] = 0.9
            at += length
        faded(rows[at:])
        at += int(50 * rng.uniform(0.4, 1.5))
    return rows


def faded(rows: np.ndarray) -> np.ndarray:
    """Rows of silence into which the speech before them fades."""
    rows[:6, 1] = np.linspace(-36, -66, 6)[: len(rows)]
    return rows


def cut_off(rows: np.ndarray, at: float) -> np.ndarray:
    """The rows with silence from `at` seconds on, as after an interruption."""
    kept = 2 * int(25 * at)
    return np.concatenate([rows[:kept], silence((len(rows) - kept) / 50)])


def silence(seconds: float) -> np.ndarray:
    return np.tile(QUIET, (int(50 * seconds), 1))


def perform(
    rows: np.ndarray, seed: int = 0, emotion: np.ndarray = CALM, **fields: Any
) -> dict[str, np.ndarray]:
    """The plan as arrays (T, ...): `eyes`, `rotation`, `shift`, `face`, `expression`, `emotion`."""
    planner = BehaviourPlanner(seed)
    plan = [planner.step(two, emotion, **fields) for two in rows.reshape(-1, 2, 4)]
    return {name: np.array([getattr(p, name) for p in plan]) for name in plan[0]._fields}


@cache
def long_plan(seed: int) -> dict[str, np.ndarray]:
    """The plan of two minutes of speech, which several tests look at."""
    return perform(speech(120, seed), seed)


def band(track: np.ndarray, low: float, high: float) -> np.ndarray:
    return sosfiltfilt(butter(2, (low, high), "bandpass", fs=25, output="sos"), track, axis=0)


def step_size(turn: np.ndarray) -> float:
    return float(np.abs(np.diff(turn, axis=0)).mean())


# --- voice


def test_accents_are_the_stressed_syllables() -> None:
    rows = speech(60)
    tracker = SpeechTracker()
    voices = [tracker.step(two) for two in rows.reshape(-1, 2, 4)]
    energy = rows[:, 1].reshape(-1, 2).mean(axis=1)
    at = np.array([voice.accent for voice in voices])
    near = np.array([energy[max(i - 2, 0) : i + 4].max() for i in np.flatnonzero(at)])
    assert 30 <= at.sum() <= 120
    assert (near > -24).mean() > 0.8
    assert not at[energy < -60].any(), "none in silence"
    began, ended = (
        np.array([getattr(v, n) for v in voices]) for n in ("utterance_start", "utterance_end")
    )
    assert began.sum() == pytest.approx(ended.sum(), abs=1)


@pytest.mark.parametrize(("rise", "asks"), [(0.5, True), (-0.5, False), (0.0, False)])
def test_a_rising_end_is_a_question(rise: float, asks: bool) -> None:
    rows = np.concatenate([np.tile(VOICED, (100, 1)), silence(1)])
    rows[70:100, 2] += np.linspace(0, rise, 30)
    tracker = SpeechTracker()
    voices = [tracker.step(two) for two in rows.reshape(-1, 2, 4)]
    asked = [voice.rising_end for voice in voices]
    assert any(asked) == asks
    assert all(voice.pause_start for voice in voices if voice.rising_end)
    assert voices[-1].phrase_seconds == pytest.approx(2.0)


def test_arousal_is_louder_and_higher_than_before() -> None:
    rows = np.tile(VOICED, (600, 1))
    rows[400:, 1:3] += (8.0, 0.2)
    tracker = SpeechTracker()
    arousal = np.array([tracker.step(two).arousal for two in rows.reshape(-1, 2, 4)])
    assert np.abs(arousal[150:200]).max() < 0.05
    assert arousal[200:260].max() > 0.5


# --- actions


def test_an_action_has_onset_apex_and_offset() -> None:
    actions = Actions(2)
    actions.begin(1, 0.5, onset=0.4, apex=1.0, offset=0.8)
    track = np.array([actions.step() for _ in range(75)])
    assert (track[:, 0] == 0).all()
    height = track[:, 1]
    assert height.max() == pytest.approx(0.5, rel=0.02)
    reached, left = (np.flatnonzero(height > share * 0.5) for share in (0.9, 0.1))
    assert reached[0] * FRAME_SECONDS == pytest.approx(0.4, abs=0.05)
    assert left[-1] * FRAME_SECONDS == pytest.approx(0.4 + 1.0 + 0.8, abs=0.12)
    assert np.abs(np.diff(height, 2)).max() < 0.06, "no jump in speed"


def test_an_action_cut_short_ends_in_time() -> None:
    actions = Actions(1)
    actions.begin(0, 1.0, onset=0.2, apex=5.0, offset=1.0)
    for _ in range(20):
        actions.step()
    actions.release(0, 0.08)
    assert [actions.step()[0] for _ in range(2)][-1] < 0.12


def test_loudness_is_relative_to_the_speaker() -> None:
    def accents(gain: float) -> int:
        rows = speech(40)
        rows[:, 1] += gain
        tracker = SpeechTracker()
        return sum(tracker.step(two).accent for two in rows.reshape(-1, 2, 4))

    assert accents(0.0) == pytest.approx(accents(-20.0), abs=2)


# --- blinks


def blinks(minutes: float, seed: int = 1, rate: float | None = None) -> np.ndarray:
    planner = BlinkPlanner(seed)
    voice = TALKING._replace(prominence=0.5)
    frames = range(int(minutes * 1500))
    return np.array(
        [
            planner.step(i * FRAME_SECONDS, voice._replace(accent=i % 33 == 0), 0.0, rate)
            for i in frames
        ]
    )


def starts(closure: np.ndarray) -> np.ndarray:
    return np.flatnonzero((closure[1:] > 0) & (closure[:-1] == 0)) / 25.0


def test_blinks_follow_the_statistics() -> None:
    closure = blinks(20)
    begun = starts(closure)
    assert 15 <= len(begun) / 20 <= 30
    logs = np.log(np.diff(begun))
    assert abs(np.mean(((logs - logs.mean()) / logs.std()) ** 3)) < 1.0, "logs are about symmetric"
    assert closure.max() == pytest.approx(1.0, abs=0.02)


def test_lids_close_faster_than_they_open() -> None:
    rng = random_stream(0, 0)
    drawn = [draw_blink(rng, 0.0) for _ in range(200)]
    length = np.array([blink.end for blink in drawn])
    assert (length > 0.15).all() and (length < 0.4).all()
    assert np.mean([blink.opening / blink.closing for blink in drawn]) == pytest.approx(1.8, 0.05)
    assert np.mean([blink.depth < 1 for blink in drawn]) < 0.3, "incomplete ones are rare"


@pytest.mark.parametrize("rate", [0.0, 10.0, 40.0])
def test_blink_rate_is_obeyed(rate: float) -> None:
    assert len(starts(blinks(10, 2, rate))) / 10 == pytest.approx(rate, rel=0.2, abs=0.1)


def test_blinks_prefer_pauses() -> None:
    planner = BlinkPlanner(5)
    at_pause: list[bool] = []
    elsewhere: list[bool] = []
    for i in range(30_000):
        voice = TALKING._replace(pause_start=i % 75 == 0)
        before = planner.blink
        planner.step(i * FRAME_SECONDS, voice, 0.0, None)
        (at_pause if voice.pause_start else elsewhere).append(planner.blink != before)
    assert np.mean(at_pause) > 5 * np.mean(elsewhere)


def first_blink(rows: np.ndarray, seed: int) -> float:
    """Seconds until the lids begin to close for the first time; infinite where they never do."""
    planner, before = BehaviourPlanner(seed), 1.0
    for frame, two in enumerate(rows.reshape(-1, 2, 4)):
        closure = planner.step(two, CALM).eyes[0]
        if closure > 0 and before == 0:
            return (frame - 1) * FRAME_SECONDS
        before = closure
    return float("inf")


def first_blinks(seed: int, seconds: float) -> list[float]:
    """Seconds until the first blink for several speakers."""
    return [first_blink(speech(seconds, speaker), seed) for speaker in range(8)]


def test_short_clips_mostly_blink() -> None:
    first = np.array([first_blinks(seed, 3.0) for seed in range(10)])
    assert np.isfinite(first).mean() > 0.75


def test_the_first_blink_depends_on_what_is_said() -> None:
    spread = [np.std(first_blinks(seed, 12.0)) for seed in range(10)]
    assert np.median(spread) > 0.15


# --- gaze


def gaze(minutes: float, seed: int = 3, controlled: bool = False) -> np.ndarray:
    planner = GazePlanner(seed)
    return np.array([planner.step(TALKING, controlled) for _ in range(int(minutes * 1500))])


def test_natural_gaze_wanders_and_comes_back() -> None:
    away = np.linalg.norm(gaze(10), axis=1)
    assert np.median(away) < 3.0, "mostly at the viewer"
    averted = away > 5.0
    assert 0.1 < averted.mean() < 0.35
    edges = np.flatnonzero(np.diff(averted.astype(int)))
    assert np.median(np.diff(edges)[1 - int(averted[0]) :: 2]) > 15


def test_controlled_gaze_holds() -> None:
    assert np.linalg.norm(gaze(5, controlled=True), axis=1).mean() < 1.0
    assert np.linalg.norm(gaze(5, controlled=True), axis=1).max() < 3.0


def test_eyes_come_back_as_the_utterance_ends() -> None:
    planner = GazePlanner(0)
    planner.aversion, planner.aversion_left = (0.0, 12.0), 1.0
    quiet = SILENCE._replace(silence=0.3)
    planner.step(quiet._replace(utterance_end=True), False)
    for _ in range(5):
        planner.step(quiet, False)
    assert planner.aversion == (0.0, 0.0)


# --- head


@pytest.mark.parametrize("seed", SEEDS)
def test_head_moves_with_the_voice(seed: int) -> None:
    rows = speech(120, seed)
    energy = band(np.maximum(rows[:, 1].reshape(-1, 2).mean(axis=1), -60.0), 1, 2)
    pitch = band(long_plan(seed)["rotation"][:, 0], 1, 2)

    def coupling(track: np.ndarray) -> float:
        return max(np.corrcoef(np.roll(track, lag), pitch)[0, 1] for lag in range(8))

    rng = np.random.default_rng(seed)
    chance = [coupling(np.roll(energy, rng.integers(150, len(energy) - 150))) for _ in range(30)]
    assert coupling(energy) > np.quantile(chance, 0.95)
    assert coupling(energy) < 0.8, "natural, not a puppet of the loudness"


@pytest.mark.parametrize("seed", SEEDS)
def test_head_is_lively_in_speech_and_calm_in_silence(seed: int) -> None:
    turn = perform(speech(30, seed), seed)["rotation"]
    assert 0.2 < step_size(turn) < 0.5
    assert np.abs(turn).max() < 22
    still = perform(silence(60), seed)["rotation"][50:]
    assert 0.02 < step_size(still) < 0.12


def test_head_moves_as_much_as_real_ones() -> None:
    spread = [
        motion(seed, seconds=10, voice=seed)[:, PITCH : ROLL + 1].std(axis=0) for seed in range(12)
    ]
    pitch, yaw, roll = np.mean(spread, axis=0)
    assert 2.8 < pitch < 5.0  # without the generator's own
    assert 3.0 < yaw < 7.0
    assert 2.0 < roll < 4.0


def test_head_is_smooth() -> None:
    turn = motion(0, seconds=60)[:, PITCH : ROLL + 1].astype(float)
    assert roughness([turn]) < 0.47, "real heads, measured with the tracker's error"
    speed = np.diff(turn, axis=0)
    spectrum = np.abs(np.fft.rfft(speed * np.hanning(len(speed))[:, None], axis=0)) ** 2
    hz = np.fft.rfftfreq(len(speed), FRAME_SECONDS)
    assert spectrum[hz > 5].sum() < 0.06 * spectrum.sum(), "even of the speed"


def test_head_rises_with_an_utterance_and_sinks_after_it() -> None:
    rows = np.concatenate([silence(2), speech(3.5)[24:-1], silence(2.52)])
    spoken = np.flatnonzero(rows[:, 0] > 0.5) // 2
    tracker = SpeechTracker()
    voices = [tracker.step(two) for two in rows.reshape(-1, 2, 4)]
    _, _, calm = EmotionPlanner(0).step(CALM, voices[0])

    def pitch_of(seed: int) -> list[float]:
        """Degrees, by the planner of the head alone: a mean over many seeds takes long."""
        head = HeadPlanner(seed)
        return [head.step(voice, (0.0, 0.0), calm)[0][0] for voice in voices]

    pitch = np.mean([pitch_of(seed) for seed in range(240)], axis=0)
    assert pitch[spoken[0] + 20] - pitch[spoken[0] - 1] > 0.7
    assert pitch[-10] < pitch[spoken[-1]] - 0.5


def test_drift_has_unit_variance() -> None:
    drift = SmoothNoise(random_stream(0, 0), np.array([0.3, 0.9, 2.0]))
    track = np.array([drift.step() for _ in range(20_000)])
    assert track.std(axis=0) == pytest.approx([1, 1, 1], rel=0.2)


# --- brows


def test_brows_rise_on_some_accents_and_live_in_silence() -> None:
    rows = speech(60, 4)
    tracker = SpeechTracker()
    accent = np.array([tracker.step(two).accent for two in rows.reshape(-1, 2, 4)])
    raised = perform(rows, 4)["expression"][:, FACE_INDEX["browInnerUp"]]
    assert raised.min() >= 0 and raised.max() < 1.5
    rises = np.flatnonzero(np.diff(raised) > 0.06)
    rises = rises[np.diff(rises, prepend=-9) > 5]  # one a raise
    after = [accent[max(i - 4, 0) : i + 2].any() for i in rises]
    assert 5 < len(rises) < 0.9 * accent.sum()
    assert np.mean(after) > 0.7
    still = perform(silence(30), 4)["expression"]
    assert still[:, FACE_INDEX["browOuterUpLeft"]].std() > 0.005


def test_brows_rise_over_a_question() -> None:
    def lift(rise: float) -> float:
        """Mean height of the brow in the second after a phrase."""
        rows = np.concatenate([np.tile(VOICED, (100, 1)), silence(2)])
        rows[70:100, 2] += np.linspace(0, rise, 30)
        faces = [perform(rows, seed)["expression"] for seed in range(12)]
        return float(np.mean([face[58:80, FACE_INDEX["browInnerUp"]].mean() for face in faces]))

    assert lift(0.5) > lift(0.0) + 0.08


# --- expression and pauses


def opening(face: np.ndarray) -> np.ndarray:
    """Gap of the inner lips, face widths: (T,)."""
    shapes = FaceModel.load().landmark_expressions[FACE_COLUMNS]
    return face @ (shapes[:, 13, 1] - shapes[:, 14, 1])


def spread(track: np.ndarray) -> float:
    """Mean deviation within windows of 10 s."""
    count = len(track) // 250
    return float(track[: 250 * count].reshape(count, 250).std(axis=1).mean())


PARTED = 0.006  # face widths


@pytest.mark.parametrize(
    "shape",
    [
        *(kind.shape for kind in expression.KINDS),
        *(shape for pair in expression.WAVE_SHAPES for shape in pair),
        *(shape for shape in pauses.SHAPES if shape is not pauses.PARTED),
    ],
)
def test_no_action_opens_the_lips(shape: dict[str, float]) -> None:
    assert -0.012 < opening(template(shape)) < 0.003


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mouth_moves_beside_speech(seed: int) -> None:
    face = long_plan(seed)["expression"]
    shapes = FaceModel.load().landmark_expressions[FACE_COLUMNS]
    lip_line = (shapes[:, 13, 1] + shapes[:, 14, 1]) / 2
    corners = (shapes[:, 61, 1] + shapes[:, 291, 1]) / 2 - lip_line
    width = shapes[:, 291, 0] - shapes[:, 61, 0]
    assert 0.004 < spread(face @ corners) < 0.016  # face widths; the height is 1.12 of them
    assert 0.008 < spread(face @ width) < 0.035
    smile = face[:, FACE_INDEX["mouthSmileLeft"]]
    assert 0.2 < smile.max() < 1.2
    assert np.median(smile) < 0.15, "a smile is an event"


def test_seeds_differ_in_their_habits() -> None:
    smiles, brows = [], []
    for seed in range(8):
        face = perform(speech(60, 1), seed)["expression"]
        smiles.append(face[:, FACE_INDEX["mouthSmileLeft"]].mean())
        brows.append(face[:, FACE_INDEX["browInnerUp"]].mean())
    assert max(smiles) > 2 * min(smiles)
    assert abs(np.corrcoef(smiles, brows)[0, 1]) < 0.9, "one smiles more, another raises the brows"


def test_an_interrupted_speaker_shuts_the_mouth() -> None:
    """A speaker who ends an utterance breathes: in the same pause, with most seeds."""
    rows = speech(8, 3)
    spoken = rows[:, 0] > 0.5
    ends = np.flatnonzero(spoken[:-1] & ~spoken[1:]) / 50
    ended, cut = [], []
    for seed in range(12):
        gap = opening(perform(rows[: 2 * int(25 * (ends[0] + 0.4))], seed)["expression"])
        ended.append(gap[-5:].max() > 0.01)
        gap = opening(perform(cut_off(rows, ends[0] - 0.4), seed)["expression"])
        cut.append(gap[int(25 * (ends[0] - 0.3)) :].max() > 0.01)
    assert np.mean(ended) > 0.5
    assert not any(cut)


@pytest.mark.parametrize("seed", SEEDS)
def test_speech_keeps_its_closures(seed: int) -> None:
    rows = speech(120, seed)
    spoken = rows[:, 0].reshape(-1, 2).mean(axis=1) > 0.5
    gap = opening(long_plan(seed)["expression"])
    since = np.array([spoken[max(i - 2, 0) : i + 1].all() for i in range(len(spoken))])
    assert gap[since].max() < 0.004, "80 ms after speech resumes"
    onset = np.flatnonzero(spoken[1:] & ~spoken[:-1]) + 1
    assert gap[onset - 1].max() > 3 * gap[onset + 1].max()


@pytest.mark.parametrize("seed", SEEDS)
def test_pauses_part_the_lips_and_silence_shuts_them(seed: int) -> None:
    phrase = np.tile(VOICED, (100, 1))
    rows = np.concatenate([np.concatenate([phrase, faded(silence(5))]) for _ in range(12)])
    gap = opening(perform(rows, seed)["expression"]).reshape(12, 175)
    assert 6 <= (gap[:, 50:95].max(axis=1) > 3 * PARTED).sum() <= 12, "most pauses"
    assert gap.max() < 0.1
    assert gap[:, 110:].max() < PARTED, "after 2.4 s"


@pytest.mark.parametrize("seed", SEEDS)
def test_idle_lips_stay_shut_but_move(seed: int) -> None:
    face = perform(silence(60), seed)["expression"]
    assert opening(face).max() < PARTED
    press = face[:, FACE_INDEX["mouthRollLower"]]
    assert 1 <= ((press[1:] > 0.1) & (press[:-1] <= 0.1)).sum() <= 10


def test_noise_does_not_make_lips_chatter() -> None:
    rng = np.random.default_rng(0)
    rows = silence(120)
    for at in range(50, len(rows) - 20, 25):  # a blip of up to 0.2 s every half second
        rows[at : at + rng.integers(2, 11), 0] = 0.9
    assert opening(perform(rows)["expression"]).max() < PARTED
    rows[:, 0] = np.repeat(rng.random(len(rows) // 2), 2)
    parted = opening(perform(rows)["expression"]) > PARTED
    assert (np.diff(parted.astype(int)) == 1).sum() < 30, "in two minutes"


def test_expressivity_scales_what_is_expressed_alone() -> None:
    rows = np.concatenate([speech(20), silence(20)])
    still, once, twice = (perform(rows, 5, expressivity=x) for x in (0.0, 1.0, 2.0))
    assert (still["expression"] == 0).all()
    assert twice["expression"] == pytest.approx(2 * once["expression"])
    for name in ("eyes", "face", "minimum", "emotion"):
        assert (still[name] == once[name]).all() and (twice[name] == once[name]).all(), name
    steps = [step_size(plan["rotation"]) for plan in (still, once, twice)]
    assert 0.3 * steps[1] < steps[0] < 0.8 * steps[1] < steps[1] < steps[2] < 2 * steps[1]
    assert np.abs(twice["rotation"]).max() < 28


def test_expression_is_beside_articulation_and_has_limits() -> None:
    rng = np.random.default_rng(0)
    canonical = rng.uniform(0, 1, (50, CANONICAL_DIM)).astype(np.float32)
    added = rng.uniform(0, 2, (50, FACE_DIM)).astype(np.float32)
    one, pose = np.ones(50, np.float32), np.zeros((50, 3), np.float32)
    plain = compose(canonical, pose, one, one, one)[:, FACE_COLUMNS]
    more = compose(canonical, pose, one, one, one, added)[:, FACE_COLUMNS]
    assert (more >= plain).all()
    assert (more <= np.maximum(plain, EXPRESSION_LIMIT)).all()
    silent = compose(canonical, pose, one, one, 0 * one, added)[:, FACE_COLUMNS]
    assert (silent[:, ARTICULATION] == np.minimum(added, EXPRESSION_LIMIT)[:, ARTICULATION]).all()


# --- emotion


def weights(name: str, strength: float = 1.0) -> np.ndarray:
    return Controls(emotion={name: strength}).emotion_vector()


@pytest.mark.parametrize("name", EMOTIONS)
def test_emotions_leave_the_lips_closed(name: str) -> None:
    shapes = FaceModel.load().landmark_expressions
    opening = shapes[FACE_COLUMNS, 13, 1] - shapes[FACE_COLUMNS, 14, 1]
    assert abs(TEMPLATES[EMOTIONS.index(name)] @ opening) < 0.005  # face widths


@pytest.mark.parametrize("name", EMOTIONS[1:])
def test_an_emotion_varies_but_stays_recognisable(name: str) -> None:
    planner = EmotionPlanner(0)
    shown, faces = [], []
    for _ in range(1000):
        now, face, _ = planner.step(weights(name), TALKING)
        shown.append(now)
        faces.append(now @ TEMPLATES + face)
    level = np.array(shown)[:, EMOTIONS.index(name)]
    assert level.min() > 0.6 and level.max() <= 1.0
    assert 0.02 < level.std() < 0.15
    distance = np.linalg.norm(np.array(faces)[:, None] - TEMPLATES, axis=2)
    assert (distance.argmin(axis=1) == EMOTIONS.index(name)).all()


@pytest.mark.parametrize("name", EMOTIONS[1:])
def test_emotion_shows_beside_the_lips_whatever_the_generator_makes(name: str) -> None:
    planner = BehaviourPlanner(0)
    index = EMOTIONS.index(name)
    weak, full = 0.4 * TEMPLATES[index], TEMPLATES[index]
    upper = [i for n, i in FACE_INDEX.items() if n.startswith(("brow", "eye", "nose", "cheek"))]
    for two in speech(3)[24:].reshape(-1, 2, 4):
        plan = planner.step(two, weights(name))
        made = plan.apply_to(weak)
        assert (made[ARTICULATION] == weak[ARTICULATION]).all(), "lips belong to speech"
        assert (made[upper] >= 0.55 * full[upper]).all()
        assert made[LIDS] == pytest.approx(max(plan.eyes[0], *full[LIDS]), abs=0.08)


def test_emotions_carry_the_head() -> None:
    rows = speech(16)
    rest = perform(rows)["rotation"][:, 0].mean()
    for name in ("sadness", "anger", "surprise"):
        moved = perform(rows, emotion=weights(name))["rotation"][:, 0].mean() - rest
        assert np.sign(moved) == np.sign(POSE[EMOTIONS.index(name), 0]), name
    sad = step_size(perform(rows, emotion=weights("sadness"))["rotation"])
    happy = step_size(perform(rows, emotion=weights("happiness"))["rotation"])
    assert sad < step_size(perform(rows)["rotation"]) < happy


def test_surprise_drops_the_jaw_in_silence_only() -> None:
    jaw = FACE_INDEX["jawOpen"]
    emotion = weights("surprise")
    assert perform(silence(4), emotion=emotion)["face"][-1, jaw] > 0.1
    rows = speech(3)[24:]
    assert perform(rows, emotion=emotion)["face"][10:, jaw].max() < 0.01


# --- the whole plan


def test_plan_depends_on_the_seed_alone() -> None:
    rows = speech(6)
    one, again, other = (perform(rows, seed) for seed in (4, 4, 5))
    for name, track in one.items():
        assert (track == again[name]).all()
        assert name in ("emotion", "face") or (track != other[name]).any()


def test_seeds_differ_as_much_as_the_head_moves() -> None:
    rows = speech(12)
    heads = np.array([perform(rows, seed)["rotation"] for seed in range(5)])
    assert heads.std(axis=0).mean() > 0.5 * heads.std(axis=1).mean()


def test_state_goes_through_json_bit_for_bit() -> None:
    rows = speech(20)
    planner = BehaviourPlanner(7)
    for two in rows[:500].reshape(-1, 2, 4):
        planner.step(two, weights("fear", 0.4))
    other = BehaviourPlanner(0)
    other.load_state(json.loads(json.dumps(planner.state())))
    for two in rows[500:].reshape(-1, 2, 4):
        one, two_ = (p.step(two, weights("fear", 0.4)) for p in (planner, other))
        assert one.eyes == two_.eyes
        assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(one, two_, strict=True))


def test_gaze_control_holds_and_the_blink_rate_leaves_the_gaze() -> None:
    rows = silence(16)
    free, held = perform(rows, 6)["eyes"], perform(rows, 6, gaze=(3.0, 20.0))["eyes"]
    assert np.abs(held[:, 1:] - [3.0, 20.0]).max() < 3.0
    faster = perform(rows, 6, blink_rate=50.0)
    assert (faster["eyes"][:, 1:] == free[:, 1:]).all()


def motion(seed: int, seconds: float = 10, voice: int = 0, **fields: Any) -> np.ndarray:
    """Motion of a generator whose own output is zero."""
    session = MotionSession(seed, Controls(**fields))
    rows = speech(seconds, voice)
    session.push(np.zeros((len(rows), FEATURE_DIM), np.float32), rows)
    session.end()
    made = []
    while session.next_request() is not None:
        made.append(session.accept({"frames": np.zeros((HOP, CANONICAL_DIM), np.float32)}))
    return np.concatenate(made)


def test_motion_scale_is_exact() -> None:
    still, once, twice = (motion(2, head_motion_scale=scale) for scale in (0.0, 1.0, 2.0))
    assert (still[:, PITCH:DISTANCE] == 0).all() and (still[:, DISTANCE] == 1).all()
    assert twice[:, PITCH:DISTANCE] == pytest.approx(2 * once[:, PITCH:DISTANCE], rel=1e-5)


def test_distance_is_kept_in_every_emotion() -> None:
    for name in EMOTIONS:
        held = motion(3, head_distance=1.3, emotion={name: 1.0})[:, DISTANCE]
        assert np.abs(held / 1.3 - 1).mean() < 0.03, name


def test_windows_join_without_a_step() -> None:
    turn = motion(4)[:, PITCH : ROLL + 1].astype(np.float64)
    jerk = np.abs(np.diff(turn, 3, axis=0)).sum(axis=1)
    assert jerk[0::2].mean() == pytest.approx(jerk[1::2].mean(), rel=0.1)


def test_eyes_stay_on_the_camera_whatever_the_head_does() -> None:
    moved = motion(5, head_motion_scale=1.5)
    pitch, yaw = arkit_to_gaze(moved[:, :52])
    assert np.abs(pitch + moved[:, PITCH]).max() < 1e-3
    assert np.abs(yaw + moved[:, YAW]).max() < 1e-3
