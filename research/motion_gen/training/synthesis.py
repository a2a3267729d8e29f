"""Rule-made motion that the recordings lack: gaze, blinks, emotion.

The recorded speaker looks straight at the camera and blinks with every word. Each training stream
gets a plan of gaze and blinks as the run-time planner makes it, gaze that follows the plan as eyes
do, and FACS-based emotions with eased, uneven strength. Sources of the numbers: `behaviour`. The
motion of head and brows with the speech is not learnt but planned at run time.
"""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import SPEECH_DIM, VOICE_ACTIVITY
from talkingface.motion_gen.behaviour.blinks import BlinkPlanner
from talkingface.motion_gen.behaviour.emotion import MEAN, TEMPLATES, WAVES, WAVES_HZ
from talkingface.motion_gen.behaviour.gaze import GazePlanner
from talkingface.motion_gen.behaviour.speech import SpeechTracker
from talkingface.motion_gen.windows import EMOTION_DIM, FRAME_SECONDS, ROWS_PER_FRAME

Generator = np.random.Generator

EMOTION_TEMPLATES = TEMPLATES


def band_noise(rng: Generator, shape: tuple[int, ...], low: float, high: float) -> Float32Array:
    """Gaussian noise of unit variance within a band, falling as 1/f, along the first axis."""
    frames = shape[0]
    length = frames + 512
    frequency = np.fft.rfftfreq(length, 1 / MOTION_FPS)
    gain = np.where((frequency >= low) & (frequency <= high), 1 / np.maximum(frequency, low), 0)
    white = rng.standard_normal((length, *shape[1:]), np.float32)
    spectrum = np.fft.rfft(white, axis=0) * gain.reshape(-1, *[1] * (len(shape) - 1))
    noise = np.fft.irfft(spectrum, length, axis=0)
    scale = np.sqrt(length * (gain**2).sum() * 2) / length
    result: Float32Array = (noise[256 : 256 + frames] / scale).astype(np.float32)
    return result


def smooth(track: Float32Array, seconds: float) -> Float32Array:
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


def plan_behaviour(rng: Generator, frames: int) -> Float32Array:
    """A plan as the run-time planner makes it, half of it under gaze control.

    :return: (frames, 3) blink closure, gaze pitch and yaw in degrees
    """
    seed = int(rng.integers(2**62))
    blinks, gazes, voices = BlinkPlanner(seed), GazePlanner(seed), SpeechTracker()
    plan = np.empty((frames, 3), np.float32)
    target: tuple[float, float] | None = None
    rows, left = np.zeros((ROWS_PER_FRAME, SPEECH_DIM), np.float32), 0
    for i in range(frames):
        if left == 0:
            left = int(rng.integers(8, 100))
            rows[:, VOICE_ACTIVITY] = rng.random() < 0.7
            control = rng.random() < 0.5
            target = (float(rng.uniform(-20, 20)), float(rng.uniform(-30, 30))) if control else None
        left -= 1
        voice = voices.step(rows)
        offset, base = gazes.step(voice, target is not None), target or (0.0, 0.0)
        plan[i, 1:] = base[0] + offset[0], base[1] + offset[1]
        shift = float(np.linalg.norm(plan[i, 1:] - plan[max(i - 1, 0), 1:]))
        plan[i, 0] = blinks.step(i * FRAME_SECONDS, voice, shift, None)
    return plan


def realise_gaze(rng: Generator, plan: Float32Array) -> Float32Array:
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


def emotion_track(rng: Generator, frames: int, streams: int) -> Float32Array:
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
