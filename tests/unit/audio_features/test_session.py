"""The speech encoder's stream: fixed rows whatever the chunks, neighbours or the mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import talkingface.audio_features as package
from talkingface.audio_features.session import AudioFeaturesSession, SpeechRows
from talkingface.contract.errors import ServiceError
from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import (
    CHUNK_SAMPLES,
    ENERGY,
    FEATURE_DIM,
    LOG2_F0,
    LOOK_AHEAD_SAMPLES,
    PHONE_COLUMNS,
    PHONE_INDEX,
    ROW_SAMPLES,
    SPEECH_DIM,
    STATE_SIZE,
    VOICE_ACTIVITY,
    VOICING,
)
from talkingface.serving import checkpoint as snapshot

MODEL = Path(package.__file__).parent / "model_repository" / "speech_encoder" / "1" / "model.onnx"


@pytest.fixture(scope="module")
def model() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODEL), options, ["CPUExecutionProvider"])


def infer(model: onnxruntime.InferenceSession, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    return model.run(["features", "speech", "next_state"], batch)


def stream(model: onnxruntime.InferenceSession, pcm: np.ndarray, chunks: list[int]) -> SpeechRows:
    session = AudioFeaturesSession()
    parts: list[SpeechRows] = []

    def drain() -> None:
        while (request := session.next_request()) is not None:
            outputs = infer(model, {k: v[None] for k, v in request.items()})
            names = ("features", "speech", "next_state")
            parts.append(session.accept({n: o[0] for n, o in zip(names, outputs, strict=True)}))

    start = 0
    for size in chunks:
        session.push(pcm[start : start + size])
        start += size
        drain()
    assert start >= len(pcm)
    session.end()
    drain()
    rows = SpeechRows(*(np.concatenate(p) for p in zip(*parts, strict=True)))
    assert session.rows == len(rows.features) == len(rows.speech)
    return rows


def voice(samples: int, seed: int = 0) -> np.ndarray:
    """Vowel-like buzz in bursts, with a little noise."""
    t = np.arange(samples) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(130 + 25 * np.sin(5 * t)) / SAMPLE_RATE
    buzz = sum(np.cos(k * phase) / k for k in range(1, 20))
    noise = np.random.default_rng(seed).normal(size=samples)
    return (0.08 * buzz * (np.sin(9 * t) > -0.3) + 0.002 * noise).astype(np.float32)


def test_any_chunking_gives_the_same_bits(model: onnxruntime.InferenceSession) -> None:
    pcm = voice(16_000 * 2 + 77)
    whole = stream(model, pcm, [len(pcm)])
    rng = np.random.default_rng(3)
    for largest in (7, 400, 5000):
        sizes: list[int] = []
        while sum(sizes) < len(pcm):
            sizes.append(int(rng.integers(0, largest)))
        other = stream(model, pcm, sizes)
        assert other.features.tobytes() == whole.features.tobytes()
        assert other.speech.tobytes() == whole.speech.tobytes()


@pytest.mark.parametrize(
    "samples", [1, 319, 320, 321, 1279, 1280, 1281, 1600, 2560, 2561, 3840, 16_000, 12_345]
)
def test_fifty_rows_a_second_rounded_up(model: onnxruntime.InferenceSession, samples: int) -> None:
    rows = stream(model, voice(samples), [samples])
    assert rows.features.shape == (-(-samples // ROW_SAMPLES), FEATURE_DIM)
    assert rows.speech.shape == (-(-samples // ROW_SAMPLES), SPEECH_DIM)
    assert np.isfinite(rows.features).all() and np.isfinite(rows.speech).all()


def test_an_empty_stream_asks_for_nothing() -> None:
    session = AudioFeaturesSession()
    session.end()
    assert session.next_request() is None
    assert session.rows == 0


def test_a_row_has_the_same_bits_whoever_shares_its_batch(
    model: onnxruntime.InferenceSession,
) -> None:
    rng = np.random.default_rng(1)
    pcm = np.stack([voice(CHUNK_SAMPLES, seed) for seed in range(16)])
    state = np.zeros((16, STATE_SIZE), np.float32)
    state[:, :480] = rng.normal(scale=0.05, size=(16, 480))
    for _ in range(3):
        together = infer(model, {"pcm": pcm, "state": state})
        for size in (1, 2, 3, 5):
            for start in range(0, 16, size):
                part = slice(start, start + size)
                alone = infer(model, {"pcm": pcm[part], "state": state[part]})
                for a, b in zip(alone, together, strict=True):
                    assert a.tobytes() == b[part].tobytes()
        state = together[2]


def test_a_row_looks_no_further_ahead_than_stated(model: onnxruntime.InferenceSession) -> None:
    pcm = voice(SAMPLE_RATE)
    row = 20
    known = ROW_SAMPLES * row + LOOK_AHEAD_SAMPLES
    changed = pcm.copy()
    changed[known:] = np.random.default_rng(2).normal(scale=0.2, size=len(pcm) - known)
    a, b = stream(model, pcm, [len(pcm)]), stream(model, changed, [len(pcm)])
    np.testing.assert_allclose(a.features[: row + 1], b.features[: row + 1], atol=1e-5)
    assert np.abs(a.features[row + 1] - b.features[row + 1]).max() > 1e-4
    changed = pcm.copy()
    changed[known - 100 : known] += 0.3
    c = stream(model, changed, [len(pcm)])
    assert np.abs(a.features[row] - c.features[row]).max() > 1e-4


def test_energy_is_that_of_the_signal(model: onnxruntime.InferenceSession) -> None:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    pcm = (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    pcm[8000:] = 0
    energy = stream(model, pcm, [len(pcm)]).speech[:, ENERGY]
    np.testing.assert_allclose(energy[2:23], 20 * np.log10(0.1 / np.sqrt(2)), atol=0.1)
    np.testing.assert_allclose(energy[28:], -100, atol=0.1)


def test_outputs_keep_their_ranges(model: onnxruntime.InferenceSession) -> None:
    rng = np.random.default_rng(5)
    loud = rng.uniform(-1, 1, SAMPLE_RATE).astype(np.float32)
    for pcm in (voice(SAMPLE_RATE), loud, np.zeros(SAMPLE_RATE, np.float32)):
        rows = stream(model, pcm, [len(pcm)])
        np.testing.assert_allclose(rows.features[:, PHONE_COLUMNS].sum(1), 1, atol=1e-4)
        for column in (VOICE_ACTIVITY, VOICING):
            assert 0 <= rows.speech[:, column].min() <= rows.speech[:, column].max() <= 1
        unvoiced = rows.speech[:, VOICING] <= 0.5
        assert (rows.speech[unvoiced, LOG2_F0] == 0).all()


def test_bad_input_is_refused_and_the_stream_lives_on(
    model: onnxruntime.InferenceSession,
) -> None:
    session = AudioFeaturesSession()
    good = voice(CHUNK_SAMPLES)
    bad = good.copy()
    bad[5] = np.nan
    with pytest.raises(ServiceError, match="AUDIO_NOT_FINITE"):
        session.push(bad)
    wrong: Any
    for wrong in (good.astype(np.float64), good[None], np.zeros(3, np.int16)):
        with pytest.raises(ValueError, match="PCM"):
            session.push(wrong)
    with pytest.raises(RuntimeError):
        session.accept({})
    session.push(good)
    request = session.next_request()
    assert request is not None
    assert session.next_request() is None, "one request at a time"
    np.testing.assert_array_equal(request["pcm"], good)
    session.end()
    with pytest.raises(RuntimeError):
        session.push(good)
    assert len(PHONE_INDEX) == PHONE_COLUMNS.stop


def test_the_training_network_gives_the_streamed_rows(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the training extra is not installed")
    from talkingface_research.audio_features.network import SpeechEncoder
    from talkingface_research.audio_features.training.export import export

    torch.manual_seed(0)
    network = SpeechEncoder(channels=32, dilations=(1, 4))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
    network.eval()
    pcm = voice(SAMPLE_RATE + 100)
    features, speech = (x[0].numpy() for x in network.encode(torch.from_numpy(pcm)[None]))
    state, parts = network.initial_state(), []
    export(network, tmp_path)
    exported = onnxruntime.InferenceSession(
        str(tmp_path / "speech_encoder" / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    carried = state.numpy()
    padded = np.pad(pcm, (0, -len(pcm) % CHUNK_SAMPLES + CHUNK_SAMPLES))
    for block in padded.reshape(-1, 1, CHUNK_SAMPLES):
        *rows, carried = infer(exported, {"pcm": block, "state": carried})
        parts.append(rows)
    streamed = [np.concatenate([p[i][0] for p in parts])[3 : 3 + len(features)] for i in (0, 1)]
    np.testing.assert_allclose(streamed[0], features, atol=2e-4)
    np.testing.assert_allclose(streamed[1], speech, atol=2e-3)


@pytest.mark.parametrize("cut", [1, 700, 1280, 9999, 20000])
def test_snapshot_goes_on_bit_for_bit(model: onnxruntime.InferenceSession, cut: int) -> None:
    pcm = np.random.default_rng(cut).normal(0, 0.1, 32000).astype(np.float32)
    names = ("features", "speech", "next_state")

    def drain(session: AudioFeaturesSession) -> list[SpeechRows]:
        parts = []
        while (request := session.next_request()) is not None:
            outputs = infer(model, {k: v[None] for k, v in request.items()})
            parts.append(session.accept({n: o[0] for n, o in zip(names, outputs, strict=True)}))
        return parts

    session = AudioFeaturesSession()
    session.push(pcm[:cut])
    drain(session)
    ends = []
    for one in (AudioFeaturesSession.restore(session.snapshot()), session):
        one.push(pcm[cut:])
        one.end()
        ends.append(np.concatenate([part.features for part in drain(one)]))
    assert (ends[0] == ends[1]).all()
    assert session.rows == 100


@pytest.mark.parametrize("broken", [b"", b"PK", b"x" * 1000])
def test_a_broken_snapshot_is_refused(broken: bytes) -> None:
    with pytest.raises(ServiceError, match="CHECKPOINT_MISMATCH"):
        AudioFeaturesSession.restore(broken)
    with pytest.raises(ServiceError, match="CHECKPOINT_MISMATCH"):
        AudioFeaturesSession.restore(snapshot.pack({"samples": 1, "block": 0}, {}))
    wide = {"pcm": np.zeros((3, 2), np.float32), "state": np.zeros(STATE_SIZE, np.float32)}
    with pytest.raises(ServiceError, match="CHECKPOINT_MISMATCH"):
        AudioFeaturesSession.restore(
            snapshot.pack({"samples": 1, "block": 0, "ended": False}, wide)
        )
