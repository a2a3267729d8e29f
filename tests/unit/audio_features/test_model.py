"""What the shipped speech encoder recognises: the weights themselves, not only their file."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest

import talkingface.audio_features as package
from talkingface.audio_features.session import AudioFeaturesSession, SpeechRows
from talkingface.contract.rates import ROW_RATE, SAMPLE_RATE
from talkingface.contract.speech_features import (
    LOG2_F0,
    PHONE_COLUMNS,
    PHONES,
    VOICE_ACTIVITY,
    VOICING,
)
from talkingface_research.audio_features.training import pitch
from tests.support import ROOT

MODEL = Path(package.__file__).parent / "model_repository" / "speech_encoder" / "1" / "model.onnx"
SPEECH = ROOT / "demo" / "speech.flac"
# The demo's text (demo/make_speech.py) in ARPAbet.
SPOKEN = (
    "hh ah l ow ah m ow m ah n t ah g ow ay w ah z ow n l iy ah f ow t ah g r ae f n aw ay b l ih"
    " ng k ay l uh k er aw n d ah n d m ay l ih p s m uw v w ih dh eh v r iy w er d p ih k eh n iy"
    " p ao r t r ah t b r ih ng eh n iy v oy s ah n d w aa ch m iy s p iy k"
)


@pytest.fixture(scope="module")
def model() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODEL), options, ["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    with av.open(str(SPEECH)) as file:
        frames = [*file.decode(audio=0), None]
        parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts)


def encode(model: onnxruntime.InferenceSession, pcm: np.ndarray) -> SpeechRows:
    session = AudioFeaturesSession()
    session.push(pcm.astype(np.float32))
    session.end()
    names = ["features", "speech", "next_state"]
    parts = []
    while (request := session.next_request()) is not None:
        outputs = model.run(names, {name: value[None] for name, value in request.items()})
        parts.append(session.accept({n: o[0] for n, o in zip(names, outputs, strict=True)}))
    return SpeechRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def test_voice_activity_is_found_in_speech_alone(
    model: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    rows = encode(model, speech)
    active = rows.speech[:, VOICE_ACTIVITY] > 0.5
    loud = rows.speech[:, 1] > -40
    assert active[loud].mean() > 0.95
    assert active[: int(0.3 * ROW_RATE)].mean() < 0.1
    silence = rows.features[: int(0.3 * ROW_RATE), PHONE_COLUMNS]
    assert (silence.argmax(1) == 0).all(), "silence is the phone sil"
    assert silence[:, 0].mean() > 0.7


def test_noise_and_silence_are_not_voice(model: onnxruntime.InferenceSession) -> None:
    rng = np.random.default_rng(0)
    for pcm in (np.zeros(3 * SAMPLE_RATE), rng.normal(scale=0.02, size=3 * SAMPLE_RATE)):
        rows = encode(model, pcm)
        assert (rows.speech[25:, VOICE_ACTIVITY] > 0.5).mean() < 0.1
        assert (rows.speech[25:, VOICING] > 0.5).mean() < 0.1


@pytest.mark.parametrize("level", [0.1, 0.3])
def test_loudness_does_not_change_the_phones(
    model: onnxruntime.InferenceSession, speech: np.ndarray, level: float
) -> None:
    full = encode(model, speech).features[:, PHONE_COLUMNS]
    other = encode(model, speech * level).features[:, PHONE_COLUMNS]
    assert (full.argmax(1) == other.argmax(1)).mean() > 0.75


def edit_distance(left: list[str], right: list[str]) -> int:
    """Insertions, deletions and replacements that turn one into the other (Levenshtein)."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row, above = [i], row
        for j, b in enumerate(right, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def test_words_are_recognised_as_their_phones(
    model: onnxruntime.InferenceSession, speech: np.ndarray
) -> None:
    found = encode(model, speech).features[:, PHONE_COLUMNS].argmax(1)
    edges = np.flatnonzero(np.diff(found, prepend=-1, append=-1))
    phones = [
        PHONES[found[start]]
        for start, end in itertools.pairwise(edges)
        if found[start] and end - start > 1
    ]
    spoken = SPOKEN.split()
    error = edit_distance(phones, spoken) / len(spoken)
    rng = np.random.default_rng(0)
    shuffled = [edit_distance(phones, list(rng.permutation(spoken))) for _ in range(20)]
    assert error < 0.75
    assert error < min(shuffled) / len(spoken) - 0.1


def test_pitch_follows_the_voice(model: onnxruntime.InferenceSession, speech: np.ndarray) -> None:
    rows = encode(model, speech)
    bins = pitch.track(speech)[::2][: len(rows.speech)].astype(float)
    truth = np.log2(pitch.F0_LOW) + (bins - 1) / pitch.PER_OCTAVE
    voicing = rows.speech[: len(bins), VOICING] > 0.5
    voiced = bins > 0
    assert (voicing == voiced).mean() > 0.85
    both = voicing & voiced
    assert np.median(np.abs(rows.speech[: len(bins)][both, LOG2_F0] - truth[both])) < 0.1
