"""What the recordings lack, made by rule: gaze, blinks, head motion, emotion.

The recorded man looks straight at the camera, hardly moves and blinks with every word. Each
training stream gets a planned gaze with saccades and eye-head coordination, blinks, head motion
with the spectrum of talking people and nods tied to the voice, and FACS-based emotions (Ekman and
Friesen 1978, by ARKit names) with eased transitions. Sources of the numbers: `behaviour` and, for
head motion, 0.3-0.5 degrees a frame in real talking video with nods near stressed syllables
(Alexanderson 2013), body sway below 0.3 Hz.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkingface.common.motion import MOTION_FPS, Array
from talkingface.motion_gen.behaviour.blinks import BlinkPlanner
from talkingface.motion_gen.behaviour.emotion import MEAN, TEMPLATES, WAVES, WAVES_HZ
from talkingface.motion_gen.behaviour.gaze import GazePlanner
from talkingface.motion_gen.behaviour.memory import FRAME
from talkingface.motion_gen.behaviour.voice import VoiceTracker
from talkingface.motion_gen.contract import (
    EMOTION_DIM,
    ROWS_PER_FRAME,
    SPEECH_DIM,
    VOICE_ACTIVITY,
)
from talkingface.motion_gen.performance import FACE_DIM, FACE_INDEX

Generator = np.random.Generator

EMOTION_TEMPLATES = TEMPLATES

SWAY = (0.04, 0.3)  # Hz
SPEECH_BAND = (0.4, 2.2)
SWAY_DEGREES = np.array([1.3, 1.8, 0.9])  # pitch, yaw, roll, standard deviations
TALK_DEGREES = np.array([1.3, 1.6, 0.8])
REST_SHARE = 0.25  # of the talk band while silent
NOD_DEGREES = 2.2
BROW_RAISE = 0.22
HEAD_FOLLOWS_GAZE = 0.35
HEAD_FOLLOW_SECONDS = 0.3
PIVOT = 0.006  # face widths of shift per degree of turn: the neck is below the face


def band_noise(rng: Generator, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Gaussian noise of unit variance within a band, falling as 1/f, along the first axis."""
    frames = shape[0]
    length = frames + 512
    frequency = np.fft.rfftfreq(length, 1 / MOTION_FPS)
    gain = np.where((frequency >= low) & (frequency <= high), 1 / np.maximum(frequency, low), 0)
    white = rng.standard_normal((length, *shape[1:]), np.float32)
    spectrum = np.fft.rfft(white, axis=0) * gain.reshape(-1, *[1] * (len(shape) - 1))
    noise = np.fft.irfft(spectrum, length, axis=0)
    scale = np.sqrt(length * (gain**2).sum() * 2) / length
    return (noise[256 : 256 + frames] / scale).astype(np.float32)


def smooth(track: Array, seconds: float) -> Array:
    """Twice through a causal first-order low-pass along the first axis."""
    keep = np.float32(np.exp(-2.0 / (seconds * MOTION_FPS)))
    out = np.asarray(track, np.float32)
    for _ in range(2):
        rows = np.empty_like(out)
        state = out[0]
        for i, row in enumerate(out):
            state = keep * state + (1 - keep) * row
            rows[i] = state
        out = rows
    return out


def plan_behaviour(rng: Generator, frames: int) -> Array:
    """A plan as the run-time planner makes it, half of it under gaze control.

    :return: (frames, 3) blink closure, gaze pitch and yaw in degrees
    """
    seed = int(rng.integers(2**62))
    blinks, gazes, voices = BlinkPlanner(seed), GazePlanner(seed), VoiceTracker()
    plan = np.empty((frames, 3), np.float32)
    held: tuple[float, float] | None = None
    rows, left = np.zeros((ROWS_PER_FRAME, SPEECH_DIM), np.float32), 0
    for i in range(frames):
        if left == 0:
            left = int(rng.integers(8, 100))
            rows[:, VOICE_ACTIVITY] = rng.random() < 0.7
            control = rng.random() < 0.5
            held = (float(rng.uniform(-20, 20)), float(rng.uniform(-30, 30))) if control else None
        left -= 1
        voice = voices.step(rows)
        offset, base = gazes.step(voice, held is not None), held or (0.0, 0.0)
        plan[i, 1:] = base[0] + offset[0], base[1] + offset[1]
        shift = float(np.linalg.norm(plan[i, 1:] - plan[max(i - 1, 0), 1:]))
        plan[i, 0] = blinks.step(i * FRAME, voice, shift, None)
    return plan


def realise_gaze(rng: Generator, plan: Array) -> Array:
    """Camera-frame gaze that follows a plan (T, S, 2): saccades take one to three frames."""
    out = np.empty_like(plan)
    current = plan[0]
    for i, target in enumerate(plan):
        step = target - current
        # 21 ms and 2.2 ms a degree (Bahill, Clark and Stark 1975), at 40 ms a frame.
        duration = 0.021 + 0.0022 * np.linalg.norm(step, axis=-1, keepdims=True)
        current = current + np.minimum(0.04 / duration, 1.0) * step
        out[i] = current
    return out + 0.12 * band_noise(rng, plan.shape, 0.3, 3.0)


def accents(activity: Array, energy: Array, pitch: Array) -> Array:
    """Prosodic prominence of each frame, 0 or more, about 1 at a stressed syllable.

    :param activity, energy, pitch: (T, S) voice activity, dBFS, log2 F0 (0 = unvoiced)
    """
    heard, voiced = activity > 0.5, (activity > 0.5) & (pitch > 1)
    loud = (energy - _typical(energy, heard)) / 8.0
    high = 3.0 * (pitch - _typical(pitch, voiced))
    prominence = 0.6 * np.clip(loud, -1, 1.5) * heard + 0.6 * np.clip(high, -1, 1.5) * voiced
    return np.maximum(prominence, 0).astype(np.float32)


def _typical(track: Array, where: NDArray[np.bool_]) -> Array:
    """Mean over the frames that count, by stream: (S,)."""
    mean: Array = (track * where).sum(axis=0) / np.maximum(where.sum(axis=0), 1)
    return mean


def head_motion(rng: Generator, speaking: Array, accent: Array, gaze_plan: Array) -> Array:
    """Head rotation, translation and log distance about the rest: (T, S, 6).

    :param speaking, accent: (T, S)
    :param gaze_plan: (T, S, 2) degrees
    """
    shape = (*speaking.shape, 3)
    lively = smooth(REST_SHARE + (1 - REST_SHARE) * speaking, 0.5)[..., None]
    rotation = SWAY_DEGREES * band_noise(rng, shape, *SWAY)
    rotation += TALK_DEGREES * lively * band_noise(rng, shape, *SPEECH_BAND)
    rotation[..., 0] -= NOD_DEGREES * smooth(accent * _gate(rng, accent.shape), 0.12)
    rotation[..., :2] += HEAD_FOLLOWS_GAZE * smooth(gaze_plan, HEAD_FOLLOW_SECONDS)
    sway = 0.008 * band_noise(rng, shape, *SWAY)
    aside = PIVOT * (0.5 * rotation[..., 1] + rotation[..., 2])
    shift = np.stack([aside, -PIVOT * rotation[..., 0]], axis=-1)
    out = np.concatenate([rotation, shift + sway[..., :2], 1.2 * sway[..., 2:]], axis=-1)
    # A stream starts at the portrait's own pose.
    start = 1 - np.exp(-np.arange(shape[0], dtype=np.float32) / (0.8 * MOTION_FPS))
    return (out * start[:, None, None]).astype(np.float32)


def brow_motion(rng: Generator, accent: Array) -> Array:
    """Brow raises that go with some accents: (T, S) to (T, S, FACE_DIM)."""
    raised = BROW_RAISE * smooth(accent * _gate(rng, accent.shape), 0.2)
    raised += 0.03 * np.maximum(band_noise(rng, accent.shape, 0.1, 1.0), 0)
    out = np.zeros((*accent.shape, FACE_DIM), np.float32)
    for name, share in (("browInnerUp", 0.8), ("browOuterUpLeft", 1.0), ("browOuterUpRight", 1.0)):
        out[..., FACE_INDEX[name]] = share * raised
    return out


def _gate(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Which accents the body takes part in: between 0 and 1, changing over seconds."""
    return np.clip(0.5 + 0.8 * band_noise(rng, shape, 0.05, 0.5), 0, 1)


def emotion_track(rng: Generator, frames: int, streams: int) -> Array:
    """Emotion weights times strength over time, (T, S, 7); often neutral, changes eased."""
    targets = np.zeros((frames, streams, EMOTION_DIM), np.float32)
    for stream in range(streams):
        at = 0
        while at < frames:
            length = int(rng.integers(20, 150))
            kind = rng.random()
            if kind > 0.4:
                weights = np.zeros(EMOTION_DIM)
                weights[rng.integers(EMOTION_DIM)] = 1
                if kind > 0.8:
                    weights = rng.dirichlet(np.full(EMOTION_DIM, 0.5))
                targets[at : at + length, stream] = weights * rng.uniform(0.2, 1.0)
            at += length
    waves = MEAN + WAVES * band_noise(rng, targets.shape, 0.05, 2 * WAVES_HZ)
    return np.clip(smooth(targets, 0.2) * waves, 0, 1)
