"""Cost of the models, and whether results are the same bit for bit."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnx

from talkingface.audio_features.session import AudioFeaturesSession
from talkingface.contract.arrays import Float32Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import LOOK_AHEAD_SECONDS
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import EXTRA_ROWS, HOP, ROWS_PER_FRAME
from talkingface_research.motion_gen.evaluation.context import ENGLISH_VOICE, EvalContext
from talkingface_research.motion_gen.evaluation.pipeline import Model, Rows, drive
from talkingface_research.report import Bar, Row

SECONDS = 8.0
CHUNKS = (161, 5000)  # samples
NEIGHBOURS = (2, 7)  # streams in a batch
RTF_BAR = Bar(high=0.25)
STATE_BAR = Bar(high=2000.0)


def measure(context: EvalContext) -> list[Row]:
    """All rows of the section."""
    audio, _ = context.voice(ENGLISH_VOICE, 0.0, SECONDS)
    encoder, generator = context.pipeline.encoder, context.pipeline.generator
    began = time.process_time()
    rows = _encode(encoder, audio, len(audio))
    encoded = time.process_time()
    motion = _generate(generator, rows, len(rows.features))
    moved = time.process_time()
    state, delay = _live(encoder, generator, audio[: 2 * SAMPLE_RATE])
    yes = Bar(1.0, 1.0)
    return [
        Row(
            "real-time factor on one core",
            {"generated": (moved - began) / SECONDS},
            "",
            RTF_BAR,
            digits=3,
            note=f"encoder {(encoded - began) / SECONDS:.3f}, generator "
            f"{(moved - encoded) / SECONDS:.3f}, sessions with them, one stream",
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
            {"generated": _chunks(context, audio, rows, motion)},
            "1 = yes",
            yes,
            digits=0,
        ),
        Row(
            "same bits beside other streams",
            {"generated": _neighbours(context, audio, rows, motion)},
            "1 = yes",
            yes,
            digits=0,
        ),
    ]


def _encode(model: Model, audio: Float32Array, chunk: int) -> Rows:
    """Encode one stream whose audio comes in chunks."""
    session = AudioFeaturesSession()
    parts = []
    for start in range(0, len(audio), chunk):
        session.push(audio[start : start + chunk])
        parts += drive(model, [session])[0]
    session.end()
    parts += drive(model, [session])[0]
    return Rows(*(np.concatenate(one) for one in zip(*parts, strict=True)))


def _generate(model: Model, rows: Rows, chunk: int) -> Float32Array:
    """Generate one stream whose rows come in chunks."""
    session = MotionSession(seed=5)
    parts: list[Float32Array] = []
    for start in range(0, len(rows.features), chunk):
        session.push(rows.features[start : start + chunk], rows.speech[start : start + chunk])
        parts += drive(model, [session])[0]
    session.end()
    parts += drive(model, [session])[0]
    return np.concatenate(parts)


def _live(encoder: Model, generator: Model, audio: Float32Array) -> tuple[int, float]:
    """Largest state of both sessions in bytes, and the longest wait for audio in seconds."""
    encoding, generating = AudioFeaturesSession(), MotionSession(seed=5)
    step = SAMPLE_RATE // 1000
    worst, largest = 0.0, 0
    for end in range(step, len(audio) + 1, step):
        encoding.push(audio[end - step : end])
        for rows in drive(encoder, [encoding])[0]:
            generating.push(*rows)
        before = generating.frames
        if drive(generator, [generating])[0]:
            worst = max(worst, end / SAMPLE_RATE - before / MOTION_FPS)
            largest = max(largest, len(generating.snapshot()))
    return largest + _request_bytes(encoding), worst


def _request_bytes(session: AudioFeaturesSession) -> int:
    """Bytes of a request: the encoder's whole state and the audio of a window."""
    session.end()
    request = session.next_request() or {}
    return sum(value.nbytes for value in request.values())


def _parameters(model: Model) -> int:
    graph = onnx.load(model.path).graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)


def _chunks(context: EvalContext, audio: Float32Array, rows: Rows, motion: Float32Array) -> float:
    for chunk in CHUNKS:
        encoded = _encode(context.pipeline.encoder, audio, chunk)
        moved = _generate(context.pipeline.generator, rows, max(1, chunk // 700))
        if not (_same(encoded, rows) and np.array_equal(moved, motion)):
            return 0.0
    return 1.0


def _neighbours(
    context: EvalContext, audio: Float32Array, rows: Rows, motion: Float32Array
) -> float:
    encoder, generator = context.pipeline.encoder, context.pipeline.generator
    for count in NEIGHBOURS:
        encoders, generators = [], []
        for i in range(count):
            encoding, generating = AudioFeaturesSession(), MotionSession(seed=5 + i)
            encoding.push(np.roll(audio, 7777 * i))
            generating.push(*(np.roll(one, 31 * i, axis=0) for one in rows))
            encoding.end()
            generating.end()
            encoders.append(encoding)
            generators.append(generating)
        first = drive(encoder, encoders, count)[0]
        encoded = Rows(*(np.concatenate(one) for one in zip(*first, strict=True)))
        moved = np.concatenate(drive(generator, generators, count)[0])
        if not (_same(encoded, rows) and np.array_equal(moved, motion)):
            return 0.0
    return 1.0


def _same(first: Sequence[Float32Array], second: Sequence[Float32Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
