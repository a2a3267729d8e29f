"""The rules and labels that the speech encoder is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import ARTICULATION, PHONE_INDEX, PHONES, ROW_SAMPLES
from talkingface_research.audio_features.training import (
    articulation,
    decoding,
    phones,
    pitch,
    texts,
)

CLOSURE, TEETH, JAW, OPENING, ROUNDING = range(5)


def spoken(*names: str, seconds: float = 0.1) -> np.ndarray:
    """Articulator tracks of phones of equal length."""
    index = [PHONE_INDEX.get(name, phones.UNKNOWN) for name in names]
    end = np.round(np.arange(1, len(names) + 1) * seconds * SAMPLE_RATE).astype(np.int64)
    return articulation.tracks(np.array(index, np.int8), end)


@pytest.mark.parametrize("bilabial", ["p", "b", "m"])
@pytest.mark.parametrize("before", ["aa", "iy", "uw", "sil"])
@pytest.mark.parametrize("after", ["aa", "ow", "r", "s"])
def test_bilabials_close_the_lips_between_any_neighbours(
    before: str, bilabial: str, after: str
) -> None:
    track = spoken("sil", before, bilabial, after, "sil", seconds=0.07)
    middle = track[17]
    assert middle[CLOSURE] > 0.8
    assert middle[OPENING] < 0.15
    assert track[:10, CLOSURE].max() < middle[CLOSURE]


def test_a_short_vowel_between_closures_opens_the_lips() -> None:
    track = spoken("sil", "m", "aa", "p", "sil", seconds=0.08)
    vowel = track[20]
    assert vowel[OPENING] > 0.35
    assert vowel[CLOSURE] < 0.4


def test_tongue_consonants_leave_the_lips_to_their_neighbours() -> None:
    rounded, spread = spoken("uw", "t", "uw"), spoken("iy", "t", "iy")
    assert rounded[15, ROUNDING] > 0.5 > 0.2 > spread[15, ROUNDING]
    lips = spoken("aa", "f", "aa")
    assert lips[15, TEETH] > 0.8


def test_lips_move_before_the_audio() -> None:
    track = spoken("sil", "sil", "uw", "uw")
    assert track[18, ROUNDING] > track[10, ROUNDING] + 0.1


def test_an_unknown_phone_has_no_target_and_pulls_none() -> None:
    track = spoken("aa", "?", "aa")
    assert np.isnan(track[11:19]).all()
    assert np.isfinite(track[:9]).all()
    assert np.isfinite(spoken("aa", "aa")).all()
    assert track.shape[1] == len(ARTICULATION)


def test_pitch_labels_follow_a_gliding_voice_and_leave_noise_unvoiced() -> None:
    t = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    f0 = 140 * 2 ** (0.6 * np.sin(4 * t))
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    voice = 0.1 * sum(np.cos(k * phase) / k for k in range(1, 15))
    noise = np.random.default_rng(0).normal(scale=0.05, size=SAMPLE_RATE)
    bins = pitch.track(np.concatenate([voice, noise]).astype(np.float32))
    found = pitch.F0_LOW * 2.0 ** ((bins[5:190] - 1.0) / pitch.PER_OCTAVE)
    assert np.abs(np.log2(found / f0[::160][5:190])).max() < 0.06
    assert (bins[205:] > 0).mean() < 0.05


def test_every_voice_maps_into_the_inventory() -> None:
    tables = (
        phones.RADIO, phones.ITALIAN, phones.FINNISH, phones.CZECH, phones.CATALAN,
        phones.RUSSIAN, phones.ESPEAK, phones.IPA, phones.IPA_PAIRS,
    )  # fmt: skip
    for table in tables:
        assert all(0 <= index < len(PHONES) for index in table.values())
    assert set(phones.IPA.values()) | set(phones.IPA_PAIRS.values()) >= set(range(1, len(PHONES)))


def test_phones_of_other_languages_have_a_nearest_phone_and_keep_their_lips() -> None:
    for near, label in phones.IPA_NEAREST.values():
        assert near in PHONES[1:]
        assert label in (phones.UNKNOWN, PHONE_INDEX[near])
    assert phones.IPA_NEAREST["tʃ"] == ("ch", PHONE_INDEX["ch"])
    # Rounded front vowels and a bilabial that does not close can be aligned, but their label is
    # unknown.
    assert {phones.IPA_NEAREST[symbol][1] for symbol in "yøœβ"} == {phones.UNKNOWN}


def test_a_grid_sentence_is_spelt_for_synthesisers(tmp_path: Path) -> None:
    path = tmp_path / "bbaz2n.align"
    path.write_text("0 1 sil\n1 2 bin\n2 3 blue\n3 4 at\n4 5 a\n5 6 sp\n6 7 two\n7 8 z\n8 9 sil\n")
    assert texts.grid(path) == "bin blue at eigh two zed"


def test_texts_vary_and_repeat_with_their_seed() -> None:
    first = texts.english(np.random.default_rng(1), ["alpha", "bravo", "charlie"])
    again = texts.english(np.random.default_rng(1), ["alpha", "bravo", "charlie"])
    lines = [next(first) for _ in range(50)]
    assert lines == [next(again) for _ in range(50)]
    assert len(set(lines)) == 50
    czech = texts.pseudo(np.random.default_rng(1), "czech")
    assert len({next(czech) for _ in range(20)}) == 20


def test_the_exported_encoder_has_the_same_rows_in_torch() -> None:
    torch = pytest.importorskip("torch", reason="training extra")
    import onnxruntime

    import talkingface.audio_features as package
    from talkingface.audio_features.session import AudioFeaturesSession
    from talkingface_research.audio_features.training.features import encode_clips, load_encoder

    path = Path(package.__file__).parent / "model_repository/speech_encoder/1/model.onnx"
    audio = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    (features, speech), *_ = encode_clips(load_encoder(path, "cpu"), [torch.from_numpy(audio)])
    model = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session = AudioFeaturesSession()
    session.push(audio)
    session.end()
    names = [output.name for output in model.get_outputs()]
    rows = []
    while (request := session.next_request()) is not None:
        answer = model.run(None, {name: value[None] for name, value in request.items()})
        rows.append(session.accept({n: a[0] for n, a in zip(names, answer, strict=True)}))
    shipped = np.concatenate([row.features for row in rows])
    assert np.abs(features.numpy() - shipped).max() < 2e-3
    assert np.abs(speech.numpy() - np.concatenate([row.speech for row in rows])).max() < 2e-2


def test_likely_phones_are_found_and_unlikely_ones_are_unknown() -> None:
    chances = np.full((30, 40), 0.1 / 37, np.float32)
    chances[:10, 0] = chances[10:20, 5] = 0.9
    chances[15, 5], chances[15, 6] = 0.1, 0.8  # one row is no phone
    chances[20:, 7], chances[20:, 8] = 0.3, 0.3
    phone, end = decoding.likeliest(np.log(chances / chances.sum(1, keepdims=True)))
    assert phone[:2].tolist() == [0, 5]
    assert set(phone[2:]) == {phones.UNKNOWN}
    rows = decoding.phones_at(phone, end, 30, ROW_SAMPLES)
    assert rows[9] == 0
    assert (rows[10:20] == 5).all()
    assert (rows[20:] == phones.UNKNOWN).all()


@pytest.mark.parametrize(
    ("hop", "expected"),
    [(160, [3, 3, 3, 5, 5, 5, 5, 5]), (ROW_SAMPLES, [3, 3, 5, 5])],
)
def test_phones_are_found_at_any_rate(hop: int, expected: list[int]) -> None:
    """A phone begins with the sample at which the one before ends; the last one goes on."""
    phone, end = np.array([3, 5], np.int8), np.array([480, 960], np.int64)
    assert decoding.phones_at(phone, end, len(expected), hop).tolist() == expected
