"""One stream of speech through the encoder, without any input or output of its own.

    session = AudioFeaturesSession()
    session.push(pcm)                                    # any chunk size
    while (request := session.next_request()) is not None:
        rows = session.accept(infer("speech_encoder", request))
    session.end()                                        # then ask for requests once more

Blocks are cut at fixed places of the stream, so chunk sizes never change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError
from talkingface.contract.speech_features import (
    BLOCK_ROWS,
    BLOCK_SAMPLES,
    DELAY_ROWS,
    FEATURE_DIM,
    ROW_SAMPLES,
    SPEECH_DIM,
    STATE_SIZE,
)
from talkingface.serving import checkpoint

Array = NDArray[np.float32]


class SpeechRows(NamedTuple):
    """Consecutive rows at 50 Hz; row i of a stream stands for time i / 50 s."""

    features: Array  # (n, 128)
    speech: Array  # (n, 4): voice activity, energy dBFS, log2 F0 (0 = unvoiced), voicing


class AudioFeaturesSession:
    """The state of one stream. Not for use by several threads at once."""

    def __init__(self, start_row: int = 0) -> None:
        """
        :param start_row: index of the first row, at which the audio starts.
        """
        self._start_row = start_row
        self._chunks: list[Array] = []
        self._buffered = 0
        self._samples = 0
        self._block = 0
        self._state = np.zeros(STATE_SIZE, np.float32)
        self._waiting = False
        self._ended = False

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return self._samples

    @property
    def rows(self) -> int:
        """Index of the row to be returned next."""
        return self._start_row + self._returned

    @property
    def _returned(self) -> int:
        done = max(0, BLOCK_ROWS * self._block - DELAY_ROWS)
        return min(done, self._total_rows) if self._ended else done

    @property
    def _total_rows(self) -> int:
        return -(-self._samples // ROW_SAMPLES)

    def push(self, pcm: Array) -> None:
        """Append samples of any number.

        :param pcm: (n,) float32 at 16 kHz, mono, nominal range [-1, 1] (beyond is clipped)
        :raises ServiceError: a sample that is not finite; the stream stays as it was
        :raises ValueError: another shape or type
        :raises RuntimeError: after `end`
        """
        if self._ended:
            raise RuntimeError("push after end")
        if pcm.ndim != 1 or pcm.dtype != np.float32:
            raise ValueError(f"PCM must be (n,) float32, got {pcm.shape} {pcm.dtype}")
        if not np.isfinite(pcm).all():
            raise ServiceError("AUDIO_NOT_FINITE", "the audio holds samples that are not finite")
        if len(pcm):
            self._chunks.append(np.clip(pcm, -1.0, 1.0))
            self._buffered += len(pcm)
            self._samples += len(pcm)

    def end(self) -> None:
        """No more samples: the remaining rows can be asked for now. Calling it twice is fine."""
        self._ended = True

    def next_request(self) -> dict[str, Array] | None:
        """Inputs of the model for the next block (without a batch dimension), or None when more
        samples, or the answer to the last request, must come first."""
        if self._waiting:
            return None
        if self._buffered < BLOCK_SAMPLES and not (
            self._ended and self._returned < self._total_rows
        ):
            return None
        joined = np.concatenate([*self._chunks, np.zeros(0, np.float32)])
        block = joined[:BLOCK_SAMPLES]
        rest = joined[BLOCK_SAMPLES:]
        self._chunks = [rest] if len(rest) else []
        self._buffered = len(rest)
        self._waiting = True
        padded = np.pad(block, (0, BLOCK_SAMPLES - len(block)))
        return {"pcm": padded, "state": self._state}

    def accept(self, outputs: Mapping[str, Array]) -> SpeechRows:
        """Take the model's answer to the last request.

        :param outputs: features (2, 128), speech (2, 4), next_state (STATE_SIZE,)
        :return: the rows that became known; none for a block that only fills the look-ahead
        :raises RuntimeError: no request is waiting for an answer
        :raises ValueError: outputs of another shape
        """
        if not self._waiting:
            raise RuntimeError("accept without a request")
        features, speech, state = (
            np.asarray(outputs[name], np.float32) for name in ("features", "speech", "next_state")
        )
        shapes = (features.shape, speech.shape, state.shape)
        if shapes != ((BLOCK_ROWS, FEATURE_DIM), (BLOCK_ROWS, SPEECH_DIM), (STATE_SIZE,)):
            raise ValueError(f"speech encoder answered with shapes {shapes}")
        first = BLOCK_ROWS * self._block - DELAY_ROWS
        last = first + BLOCK_ROWS
        if self._ended:
            last = min(last, self._total_rows)
        kept = slice(max(0, -first), max(0, last - first))
        self._block += 1
        self._state = state
        self._waiting = False
        return SpeechRows(features[kept], speech[kept])

    def snapshot(self) -> bytes:
        """All of the state, to go on elsewhere with `restore`.

        :raises RuntimeError: a request is waiting for its answer
        """
        if self._waiting:
            raise RuntimeError("snapshot while a request is waiting")
        values = {
            "start_row": self._start_row,
            "samples": self._samples,
            "block": self._block,
            "ended": self._ended,
        }
        pcm = np.concatenate([*self._chunks, np.zeros(0, np.float32)])
        return checkpoint.pack(values, {"pcm": pcm, "state": self._state})

    @classmethod
    def restore(cls, data: bytes) -> AudioFeaturesSession:
        """The session that `snapshot` described; it goes on bit for bit.

        :raises ServiceError: CHECKPOINT_MISMATCH
        """
        session = cls()
        values, arrays = checkpoint.unpack(data)
        try:
            session._start_row = int(values["start_row"])
            session._samples, session._block = int(values["samples"]), int(values["block"])
            session._ended = bool(values["ended"])
            pcm = checkpoint.like(arrays["pcm"], np.zeros(0, np.float32))
            session._state = checkpoint.like(arrays["state"], session._state)
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None
        if session._state.shape != (STATE_SIZE,):
            raise checkpoint.mismatch(f"a state of {session._state.shape}")
        session._chunks, session._buffered = [pcm], len(pcm)
        return session
