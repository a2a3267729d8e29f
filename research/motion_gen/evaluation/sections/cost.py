"""What it costs, and whether it is the same bit for bit."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnx

from talkingface.audio_features.session import AudioFeaturesSession
from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import LOOK_AHEAD_SECONDS
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import EXTRA_ROWS, HOP, ROWS_PER_FRAME
from talkingface_research.motion_gen.evaluation.bench import ENGLISH_VOICE, Bench
from talkingface_research.motion_gen.evaluation.pipeline import Model, Rows, drive
from talkingface_research.report import Bar, Row

SECONDS = 8.0
CHUNKS = (161, 5000)  # samples
NEIGHBOURS = (2, 7)
RTF_BAR = Bar(high=0.25)
STATE_BAR = Bar(high=2000.0)


def measure(bench: Bench) -> list[Row]:
    """All rows of the section."""
    sound, _ = bench.voice(ENGLISH_VOICE, 0.0, SECONDS)
    encoder, generator = bench.pipeline.encoder, bench.pipeline.generator
    began = time.process_time()
    rows = _hear(encoder, sound, len(sound))
    heard = time.process_time()
    motion = _move(generator, rows, len(rows.features))
    moved = time.process_time()
    state, delay = _live(encoder, generator, sound[: 2 * SAMPLE_RATE])
    yes = Bar(1.0, 1.0)
    return [
        Row(
            "real-time factor on one core",
            {"generated": (moved - began) / SECONDS},
            "",
            RTF_BAR,
            digits=3,
            note=f"encoder {(heard - began) / SECONDS:.3f}, generator "
            f"{(moved - heard) / SECONDS:.3f}, sessions with them, one stream",
        ),
        Row(
            "look-ahead of the encoder",
            {"generated": 1000 * LOOK_AHEAD_SECONDS},
            "ms",
            Bar(high=120.0),
            digits=0,
        ),
        Row(
            "from a frame's beginning to the last sample it waits for",
            {"generated": 1000 * delay},
            "ms",
            digits=0,
            note=f"worst frame, measured; hop {1000 * HOP // MOTION_FPS} ms, "
            f"{EXTRA_ROWS} of {ROWS_PER_FRAME * HOP + EXTRA_ROWS} rows ahead",
        ),
        Row(
            "state of a session, both stages",
            {"generated": state / 1000},
            "kB",
            STATE_BAR,
            digits=0,
        ),
        *(
            Row(
                f"parameters, {model.name}",
                {"generated": _parameters(model) / 1e6},
                "millions",
                note=f"{model.path.stat().st_size / 1e6:.1f} MB",
            )
            for model in (encoder, generator)
        ),
        Row(
            "same bits in chunks of any size",
            {"generated": _chunks(bench, sound, rows, motion)},
            "1 = yes",
            yes,
            digits=0,
        ),
        Row(
            "same bits beside other streams",
            {"generated": _neighbours(bench, sound, rows, motion)},
            "1 = yes",
            yes,
            digits=0,
        ),
    ]


def _hear(model: Model, sound: Array, chunk: int) -> Rows:
    """One stream whose sound comes in pieces."""
    session = AudioFeaturesSession()
    parts = []
    for start in range(0, len(sound), chunk):
        session.push(sound[start : start + chunk])
        parts += drive(model, [session])[0]
    session.end()
    parts += drive(model, [session])[0]
    return Rows(*(np.concatenate(one) for one in zip(*parts, strict=True)))


def _move(model: Model, rows: Rows, chunk: int) -> Array:
    """One stream whose rows come in pieces."""
    session = MotionSession(seed=5)
    parts: list[Array] = []
    for start in range(0, len(rows.features), chunk):
        session.push(rows.features[start : start + chunk], rows.speech[start : start + chunk])
        parts += drive(model, [session])[0]
    session.end()
    parts += drive(model, [session])[0]
    return np.concatenate(parts)


def _live(encoder: Model, generator: Model, sound: Array) -> tuple[int, float]:
    """Bytes of both sessions' state, and seconds of sound that a frame waits for, at most."""
    hearing, moving = AudioFeaturesSession(), MotionSession(seed=5)
    step = SAMPLE_RATE // 1000
    worst, largest = 0.0, 0
    for end in range(step, len(sound) + 1, step):
        hearing.push(sound[end - step : end])
        for rows in drive(encoder, [hearing])[0]:
            moving.push(*rows)
        before = moving.frames
        if drive(generator, [moving])[0]:
            worst = max(worst, end / SAMPLE_RATE - before / MOTION_FPS)
            largest = max(largest, len(moving.snapshot()))
    return largest + _asked(hearing), worst


def _asked(session: AudioFeaturesSession) -> int:
    """Bytes of a request: the encoder's whole state and the sound of a block."""
    session.end()
    request = session.next_request() or {}
    return sum(value.nbytes for value in request.values())


def _parameters(model: Model) -> int:
    graph = onnx.load(model.path).graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)


def _chunks(bench: Bench, sound: Array, rows: Rows, motion: Array) -> float:
    for chunk in CHUNKS:
        heard = _hear(bench.pipeline.encoder, sound, chunk)
        moved = _move(bench.pipeline.generator, rows, max(1, chunk // 700))
        if not (_same(heard, rows) and np.array_equal(moved, motion)):
            return 0.0
    return 1.0


def _neighbours(bench: Bench, sound: Array, rows: Rows, motion: Array) -> float:
    encoder, generator = bench.pipeline.encoder, bench.pipeline.generator
    for count in NEIGHBOURS:
        hearing, moving = [], []
        for i in range(count):
            listener, mover = AudioFeaturesSession(), MotionSession(seed=5 + i)
            listener.push(np.roll(sound, 7777 * i))
            mover.push(*(np.roll(one, 31 * i, axis=0) for one in rows))
            listener.end()
            mover.end()
            hearing.append(listener)
            moving.append(mover)
        first = drive(encoder, hearing, count)[0]
        heard = Rows(*(np.concatenate(one) for one in zip(*first, strict=True)))
        moved = np.concatenate(drive(generator, moving, count)[0])
        if not (_same(heard, rows) and np.array_equal(moved, motion)):
            return 0.0
    return 1.0


def _same(first: Sequence[Array], second: Sequence[Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
