"""One stream of audio through the speech encoder, without any I/O.

    session = AudioFeaturesSession()
    session.push(pcm)                                    # any number of samples
    while (request := session.next_request()) is not None:
        rows = session.accept(infer("speech_encoder", request))
    session.end()                                        # then request the remaining chunks

The encoder's chunks start at fixed positions of the stream, so the result is the same bit for bit
however many samples each `push` brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.errors import ServiceError
from talkingface.contract.speech_features import (
    CHUNK_ROWS,
    CHUNK_SAMPLES,
    DELAY_ROWS,
    FEATURE_DIM,
    ROW_SAMPLES,
    SPEECH_DIM,
    STATE_SIZE,
)
from talkingface.serving import checkpoint


class SpeechRows(NamedTuple):
    """Consecutive rows at 50 Hz; row i of a stream stands for time i / 50 s."""

    features: Float32Array  # (n, 128)
    speech: Float32Array  # (n, 4): voice activity, energy dBFS, log2 F0 (0 = unvoiced), voicing


class AudioFeaturesSession:
    """The state of one stream. Not thread-safe."""

    def __init__(self, start_row: int = 0) -> None:
        """
        :param start_row: index of the first row, at which the audio starts
        """
        self._start_row = start_row
        self._buffers: list[Float32Array] = []
        self._buffered = 0  # samples in them
        self._samples = 0  # pushed so far
        self._chunk = 0  # index of the encoder's next chunk
        self._state = np.zeros(STATE_SIZE, np.float32)
        self._pending = False
        self._ended = False

    @property
    def samples(self) -> int:
        """Number of samples pushed so far."""
        return self._samples

    @property
    def rows(self) -> int:
        """Index of the row to be returned next."""
        return self._start_row + self._returned

    @property
    def _returned(self) -> int:
        """Number of rows returned so far."""
        done = max(0, CHUNK_ROWS * self._chunk - DELAY_ROWS)
        return min(done, self._total_rows) if self._ended else done

    @property
    def _total_rows(self) -> int:
        return -(-self._samples // ROW_SAMPLES)

    def push(self, pcm: Float32Array) -> None:
        """Append any number of samples.

        :param pcm: (n,) float32 at 16 kHz, mono; clipped to [-1, 1]
        :raises ServiceError: AUDIO_NOT_FINITE; the stream is unchanged
        :raises ValueError: another shape or type
        :raises RuntimeError: after `end`
        """
        if self._ended:
            raise RuntimeError("push after end")
        if pcm.ndim != 1 or pcm.dtype != np.float32:
            raise ValueError(f"PCM must be (n,) float32, got {pcm.shape} {pcm.dtype}")
        if not np.isfinite(pcm).all():
            raise ServiceError("AUDIO_NOT_FINITE", "the audio contains samples that are not finite")
        if len(pcm):
            self._buffers.append(np.clip(pcm, -1.0, 1.0))
            self._buffered += len(pcm)
            self._samples += len(pcm)

    def end(self) -> None:
        """Declare that no more samples will come, so that the remaining rows can be requested.

        Idempotent.
        """
        self._ended = True

    def next_request(self) -> dict[str, Float32Array] | None:
        """Return the model's inputs for the next chunk, without batch dimension.

        :return: None while more samples, or the outputs of the last request, must come first
        """
        if self._pending:
            return None
        if self._buffered < CHUNK_SAMPLES and not (
            self._ended and self._returned < self._total_rows
        ):
            return None
        joined = np.concatenate([*self._buffers, np.zeros(0, np.float32)])
        chunk = joined[:CHUNK_SAMPLES]
        rest = joined[CHUNK_SAMPLES:]
        self._buffers = [rest] if len(rest) else []
        self._buffered = len(rest)
        self._pending = True
        if len(chunk) < CHUNK_SAMPLES:
            chunk = np.pad(chunk, (0, CHUNK_SAMPLES - len(chunk)))
        return {"pcm": chunk, "state": self._state}

    def accept(self, outputs: Mapping[str, Float32Array]) -> SpeechRows:
        """Accept the model's outputs for the last request.

        :param outputs: features (2, 128), speech (2, 4), next_state (STATE_SIZE,)
        :return: the completed rows; none while the look-ahead is filled
        :raises RuntimeError: no request is pending
        :raises ValueError: outputs of another shape
        """
        if not self._pending:
            raise RuntimeError("accept without a request")
        features, speech, state = (
            np.asarray(outputs[name], np.float32) for name in ("features", "speech", "next_state")
        )
        shapes = (features.shape, speech.shape, state.shape)
        if shapes != ((CHUNK_ROWS, FEATURE_DIM), (CHUNK_ROWS, SPEECH_DIM), (STATE_SIZE,)):
            raise ValueError(f"the speech encoder returned shapes {shapes}")
        first = CHUNK_ROWS * self._chunk - DELAY_ROWS
        last = first + CHUNK_ROWS
        if self._ended:
            last = min(last, self._total_rows)
        kept = slice(max(0, -first), max(0, last - first))
        self._chunk += 1
        self._state = state
        self._pending = False
        return SpeechRows(features[kept], speech[kept])

    def snapshot(self) -> bytes:
        """Return the whole state for `restore`.

        :raises RuntimeError: a request is pending
        """
        if self._pending:
            raise RuntimeError("snapshot while a request is pending")
        values = {
            "start_row": self._start_row,
            "samples": self._samples,
            "chunk": self._chunk,
            "ended": self._ended,
        }
        pcm = np.concatenate([*self._buffers, np.zeros(0, np.float32)])
        return checkpoint.pack(values, {"pcm": pcm, "state": self._state})

    @classmethod
    def restore(cls, data: bytes) -> AudioFeaturesSession:
        """Create the session that `snapshot` described; it continues bit for bit.

        :raises ServiceError: CHECKPOINT_MISMATCH
        """
        session = cls()
        values, arrays = checkpoint.unpack(data)
        try:
            session._start_row = int(values["start_row"])
            session._samples, session._chunk = int(values["samples"]), int(values["chunk"])
            session._ended = bool(values["ended"])
            pcm = checkpoint.like(arrays["pcm"], np.zeros(0, np.float32))
            session._state = checkpoint.like(arrays["state"], session._state)
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None
        if session._state.shape != (STATE_SIZE,):
            raise checkpoint.mismatch(f"a state of {session._state.shape}")
        session._buffers, session._buffered = [pcm], len(pcm)
        return session
