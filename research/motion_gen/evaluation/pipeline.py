"""Both stages' models, run by ONNX Runtime on one thread through the real sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from talkingface import audio_features, motion_gen
from talkingface.audio_features import session as encoder_session
from talkingface.audio_features.session import AudioFeaturesSession
from talkingface.contract import speech_features
from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import Controls
from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.speech_features import MODEL_NAME as ENCODER
from talkingface.motion_gen.session import MotionSession
from talkingface.motion_gen.windows import MODEL_NAME as GENERATOR
from talkingface_research.motion_gen.evaluation.store import save_arrays

BATCH = 16  # streams; the bits of one do not depend on the others (`sections.cost`)
SHIPPED = {
    name: Path(*package.__path__) / "model_repository" / name / "1" / "model.onnx"
    for name, package in ((ENCODER, audio_features), (GENERATOR, motion_gen))
}


class Rows(NamedTuple):
    """Speech features and speech columns of audio, 50 rows a second."""

    features: Float32Array  # (n, 128)
    speech: Float32Array  # (n, 4)


class StageSession(Protocol):
    """What the sessions of all stages have in common."""

    def next_request(self) -> dict[str, Float32Array] | None: ...

    def accept(self, outputs: Mapping[str, Float32Array]) -> Any: ...


class Model:
    """One ONNX model on one core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.path = path
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def name(self) -> str:
        """The stage whose model it is, by its inputs."""
        inputs = {entry.name for entry in self._session.get_inputs()}
        return ENCODER if "pcm" in inputs else GENERATOR

    def __call__(
        self, requests: Sequence[Mapping[str, Float32Array]]
    ) -> list[dict[str, Float32Array]]:
        """Run requests without a batch dimension in one batch."""
        stacked = {name: np.stack([r[name] for r in requests]) for name in requests[0]}
        answers = self._session.run(self._outputs, stacked)
        return [
            dict(zip(self._outputs, (answer[i] for answer in answers), strict=True))
            for i in range(len(requests))
        ]


def drive(model: Model, sessions: Sequence[StageSession], batch: int = BATCH) -> list[list[Any]]:
    """Run sessions until none of them requests more; return the results of each."""
    results: list[list[Any]] = [[] for _ in sessions]
    waiting = list(range(len(sessions)))
    while waiting:
        requests = [(i, request) for i in waiting if (request := sessions[i].next_request())]
        for first in range(0, len(requests), batch):
            part = requests[first : first + batch]
            for (i, _), outputs in zip(part, model([r for _, r in part]), strict=True):
                results[i].append(sessions[i].accept(outputs))
        waiting = [i for i, _ in requests]
    return results


class Pipeline:
    """Audio to rows to motion. Rows are cached in a folder by the content of the audio."""

    def __init__(self, models: Sequence[Path] = (), cache: Path | None = None) -> None:
        """
        :param models: ONNX files to use in place of the shipped ones
        :param cache: folder of cached rows
        """
        replaced = {model.name: model for model in map(Model, models)}
        self.encoder = replaced.get(ENCODER) or Model(SHIPPED[ENCODER])
        self.generator = replaced.get(GENERATOR) or Model(SHIPPED[GENERATOR])
        self._cache = cache
        sources = (encoder_session.__file__, speech_features.__file__)
        code = [Path(source).read_bytes() for source in sources]
        self._encoding = b"".join([self.encoder.digest.encode(), *code])
        self._motions: dict[str, Float32Array] = {}

    def rows(self, audio: Sequence[Float32Array]) -> list[Rows]:
        """Rows of whole clips (n,) at 16 kHz."""
        found = [self._load(clip) for clip in audio]
        missing = [i for i, rows in enumerate(found) if rows is None]
        sessions = [AudioFeaturesSession() for _ in missing]
        for i, session in zip(missing, sessions, strict=True):
            session.push(audio[i].astype(np.float32))
            session.end()
        for i, parts in zip(missing, drive(self.encoder, sessions), strict=True):
            found[i] = Rows(*(np.concatenate(one) for one in zip(*parts, strict=True)))
            self._store(audio[i], found[i])
        return [rows for rows in found if rows is not None]

    def motions(
        self,
        rows: Sequence[Rows],
        controls: Controls | None = None,
        seeds: Sequence[int] | None = None,
        changes: Sequence[tuple[int, Controls]] = (),
    ) -> list[Float32Array]:
        """Motion frames (T, 60) for the rows of each clip; generated once and kept.

        :param controls: in force from frame 0
        :param seeds: one a clip; default: 0 for all
        :param changes: (frame, controls) put in force later
        """
        seeds = seeds or [0] * len(rows)
        keys = [
            _digest(one.features, one.speech, repr((seed, controls, changes)).encode())
            for one, seed in zip(rows, seeds, strict=True)
        ]
        missing = {key: i for i, key in enumerate(keys) if key not in self._motions}
        sessions = []
        for i in missing.values():
            session = MotionSession(seed=seeds[i], controls=controls)
            for frame, later in changes:
                session.set_controls(frame, **vars(later))
            session.push(*rows[i])
            session.end()
            sessions.append(session)
        for key, parts in zip(missing, drive(self.generator, sessions), strict=True):
            self._motions[key] = np.concatenate([np.zeros((0, MOTION_DIM), np.float32), *parts])
        return [self._motions[key] for key in keys]

    def _path(self, audio: Float32Array) -> Path | None:
        if self._cache is None:
            return None
        key = _digest(audio, self._encoding)
        return self._cache / f"rows-{key}.npz"

    def _load(self, audio: Float32Array) -> Rows | None:
        path = self._path(audio)
        if path is None or not path.exists():
            return None
        with np.load(path) as stored:
            return Rows(stored["features"], stored["speech"])

    def _store(self, audio: Float32Array, rows: Rows | None) -> None:
        path = self._path(audio)
        if path is not None and rows is not None:
            save_arrays(path, features=rows.features, speech=rows.speech)


def _digest(*parts: NDArray[Any] | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:24]
