"""The measures of the motion benchmark on curves whose results are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_INDEX, DISTANCE, PITCH, YAW, neutral
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface.renderer.face.model import FaceModel
from talkingface_research.audio_features.training.phones import NATURAL_PHONES
from talkingface_research.motion_gen.evaluation import (
    blinks,
    classifier,
    closures,
    corruptions,
    curves,
    gaze,
    head,
    mouth,
    phones,
    recordings,
    run,
    singing,
    smoothness,
)
from talkingface_research.motion_gen.evaluation.context import ENGLISH_VOICE, EvalContext, by_rule
from talkingface_research.motion_gen.evaluation.pipeline import Pipeline
from talkingface_research.motion_gen.evaluation.sections import cost
from talkingface_research.motion_gen.evaluation.sections.controls import settled
from talkingface_research.motion_gen.evaluation.sections.lips import quiet_jitter


def syllables(seconds: float, seed: int) -> np.ndarray:
    """A curve that lives in the syllable band."""
    rng = np.random.default_rng(seed)
    return curves.band_passed(rng.standard_normal(int(seconds * MOTION_FPS)))


# Curves


@pytest.mark.parametrize("lag", [-1, 0, 1, 2])
@pytest.mark.parametrize("offset", [-3, 0, 6])
def test_a_lag_is_found_on_clocks_that_differ(lag: int, offset: int) -> None:
    video = [syllables(8, seed) for seed in range(3)]
    # `video` is `offset` frames behind the audio; `made` is `lag` frames late.
    made = [curves.shifted(track, lag - offset, 200) for track in video]
    r, found = curves.lagged_correlation(made, video, [offset] * 3)
    assert found == lag
    assert r > 0.9


def test_correlation_falls_with_noise_as_expected() -> None:
    real = [syllables(60, seed) for seed in range(4)]
    equal = [track + syllables(60, 100 + i) for i, track in enumerate(real)]
    r, _ = curves.lagged_correlation(equal, real, [0] * 4)
    assert r == pytest.approx(1 / np.sqrt(2), abs=0.03)


def test_unrelated_curves_do_not_correlate() -> None:
    real = [syllables(60, seed) for seed in range(4)]
    assert curves.lagged_correlation([*real[1:], real[0]], real, [0] * 4)[0] < 0.1
    assert curves.lagged_correlation([np.zeros(1500)] * 4, real, [0] * 4)[0] == 0


def test_slow_drift_and_size_do_not_count() -> None:
    real = [syllables(30, 1)]
    drifting = [5 * real[0] + np.linspace(0, 40, 750)]
    assert curves.lagged_correlation(drifting, real, [0])[0] > 0.95
    assert curves.spread([3 * real[0]]) == pytest.approx(3 * curves.spread(real))


# Mouth and phones


def test_coefficients_and_landmarks_agree_on_the_opening() -> None:
    motion = neutral(2)
    motion[1, ARKIT_INDEX["jawOpen"]] = 0.3
    model = FaceModel.load()
    points = model.landmarks(np.zeros(len(model.identity), np.float32), motion[:, :52]) * 200
    gap, width = mouth.measured(points.astype(np.float32))
    face = np.linalg.norm(model.landmark_mean[234] - model.landmark_mean[454])
    assert gap[1] - gap[0] == pytest.approx(mouth.opening(motion)[1] / face, rel=0.05)
    assert width[1] - width[0] == pytest.approx(mouth.width(motion)[1] / face, rel=0.2)
    assert mouth.lip_below_teeth(motion)[1] > 0.05


def spoken_phones(*names: str, seconds: float = 0.2) -> phones.Phones:
    return phones.Phones(
        np.array([PHONE_INDEX[n] for n in names], np.int8),
        seconds * np.arange(1, len(names) + 1),
    )


def test_closures_are_found_within_the_slack_and_not_beyond() -> None:
    spoken = spoken_phones("aa", "p", "aa", "aa", "m", "aa", "aa", "aa")  # p 0.2-0.4, m 0.8-1.0
    gap = np.full(40, 0.05)
    gap[3] = 0.0  # 0.14 s: 60 ms before p
    gap[27] = 0.0  # 1.10 s: 100 ms after m
    found = closures.reached(gap, spoken, phones.BILABIAL, 0.008)
    assert found.tolist() == [True, False]
    late = closures.reached(np.roll(gap, 5), spoken, phones.BILABIAL, 0.008, offset=5)
    assert late.tolist() == [True, False]
    assert closures.share_below([gap], 0.008) == pytest.approx(2 / 40)


def test_a_stop_that_includes_the_silence_before_it_is_judged_by_its_end() -> None:
    spoken = phones.Phones(
        np.array([PHONE_INDEX["p"], PHONE_INDEX["aa"]], np.int8), np.array([1.0, 2.0])
    )
    gap = np.full(50, 0.05)
    gap[:15] = 0.0  # shut until 0.6 s, open when the stop is released
    assert not closures.reached(gap, spoken, phones.BILABIAL, 0.008).any()


def test_the_rules_close_every_bilabial() -> None:
    spoken = spoken_phones("sil", "p", "aa", "m", "iy", "b", "uw", "f", "ey", "sil", seconds=0.12)
    motion = by_rule(spoken, 30)
    assert closures.reached(mouth.opening(motion), spoken, phones.BILABIAL, 0.008).all()


def test_labels_move_to_where_the_silences_are(tmp_path: Path) -> None:
    labels = [NATURAL_PHONES.index("sil")] * 30 + [NATURAL_PHONES.index("m")] * 30
    labels += [NATURAL_PHONES.index("sil")] * 30
    path = tmp_path / "a.phonemes.json"
    path.write_text(json.dumps(labels))
    level = np.full(300, -80.0)
    level[108:208] = -20.0  # 80 ms later than in the labels
    found = phones.labelled(path, level)
    assert found.phone.tolist() == [0, PHONE_INDEX["m"], 0]
    assert found.end == pytest.approx([1.08, 2.08, 3.08], abs=0.011)


def test_phones_are_cut_to_an_interval() -> None:
    cut = spoken_phones("aa", "p", "iy", "m").between(0.3, 0.7)
    assert cut.phone.tolist() == [PHONE_INDEX[n] for n in ("p", "iy", "m")]
    assert cut.end == pytest.approx([0.1, 0.3, 0.4])


def test_jitter_counts_pauses_only() -> None:
    energy = np.array([1.0] * 10 + [1e-4] * 10)
    opening = np.array([0.0, 1.0] * 5 + [0.0, 0.1] * 5)
    assert quiet_jitter(opening, energy) == pytest.approx(np.full(9, 0.1))


def test_a_recordings_offset_is_found_by_its_loudness() -> None:
    rng = np.random.default_rng(5)
    loud = np.clip(syllables(20, 6) + 2, 0.05, None)
    audio = rng.standard_normal(500 * 640) * np.repeat(loud, 640)
    clip = recordings.Recording(
        "a", audio.astype(np.float32), curves.shifted(loud, 4, 500), np.zeros(500), neutral(500)
    )
    assert recordings.audio_offset([clip]) == 4


# Liveliness


def blinking(starts: list[float], closing: float, opening: float, seconds: float) -> np.ndarray:
    t = (np.arange(int(seconds * MOTION_FPS)) + 0.5) / MOTION_FPS
    lid = np.zeros(len(t))
    for start in starts:
        since = t - start
        down = np.clip(since / closing, 0, 1)
        up = np.clip((since - closing) / opening, 0, 1)
        lid = np.maximum(lid, np.minimum(down, 1 - up))
    return lid


def test_blinks_are_counted_and_timed() -> None:
    starts = [1.0, 2.3, 4.1, 7.7, 9.0]
    found = blinks.find(blinking(starts, 0.12, 0.24, 10.0))
    assert len(found.start) == 5
    assert found.start == pytest.approx(starts, abs=0.04)
    assert found.intervals == pytest.approx(np.diff(starts), abs=0.04)
    assert np.median(found.duration) == pytest.approx(0.36 * 0.9, abs=0.04)
    assert np.median(found.opening / found.closing) == pytest.approx(2.0, abs=0.5)
    assert blinks.rate([found], 10.0) == pytest.approx(30.0)


def test_a_half_closed_lid_is_no_blink() -> None:
    assert len(blinks.find(np.full(250, 0.6)).start) == 0
    assert len(blinks.find(0.3 * blinking([1.0, 3.0], 0.1, 0.2, 5.0)).start) == 0


def test_log_normal_intervals_pass_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    distance, limit = blinks.lognormal_distance(rng.lognormal(1.0, 0.5, 300))
    assert distance < limit
    distance, limit = blinks.lognormal_distance(
        np.concatenate([rng.normal(1.0, 0.01, 150), rng.normal(4.0, 0.01, 150)])
    )
    assert distance > 2 * limit


def test_saccades_dwell_and_aversion() -> None:
    track = np.zeros((500, 2))
    track[100:125, 1] = 10.0  # a second aside
    track[300:350, 0] = -6.0  # two seconds down
    track += 0.05 * np.random.default_rng(0).standard_normal(track.shape)
    found = gaze.saccades(track)
    assert found.size == pytest.approx([10, 10, 6, 6], abs=0.3)
    assert found.dwell == pytest.approx([1.0, 7.0, 2.0], abs=0.09)
    share, lengths = gaze.averted(track)
    assert share == pytest.approx(75 / 500)
    assert lengths == pytest.approx([1.0, 2.0])


def test_gaze_is_measured_in_the_cameras_frame() -> None:
    motion = neutral(1)
    motion[0, YAW], motion[0, PITCH] = 12.0, -5.0
    motion[0, ARKIT_INDEX["eyeLookInLeft"]] = motion[0, ARKIT_INDEX["eyeLookOutRight"]] = 0.4
    assert gaze.in_camera(motion)[0] == pytest.approx([-5.0, 0.0])


def test_head_spectrum_and_step() -> None:
    t = np.arange(1500) / MOTION_FPS
    track = np.stack([np.sin(2 * np.pi * f * t) for f in (0.6, 0.6, 1.5)], 1)
    shares = head.band_shares([track])
    assert shares == pytest.approx([0, 2 / 3, 1 / 3, 0], abs=0.03)
    assert head.step([np.tile([[0.0], [1.0]], (50, 3))]) == 1.0


def test_a_head_that_nods_with_the_speech_has_a_coherence_above_chance() -> None:
    rng = np.random.default_rng(1)
    voice = curves.band_passed(rng.standard_normal(3000), (0.8, 2.5))
    nods = np.cumsum(np.stack([voice, 0 * voice, 0 * voice], 1), axis=0)
    nods += 0.05 * np.cumsum(rng.standard_normal(nods.shape), axis=0)
    assert head.coherence([nods], [voice]) > 0.8
    mean, high = head.chance_coherence([nods], [voice])
    assert mean < high < 0.3


def test_roughness_of_smooth_and_of_shaking_motion() -> None:
    noise = np.random.default_rng(2).standard_normal((20_000, 3))
    swing = np.sin(np.arange(1000) / 20)
    assert smoothness.roughness([swing, swing]) < 0.01
    assert smoothness.roughness([np.cumsum(noise, axis=0)]) == pytest.approx(6**0.5, abs=0.05)
    assert smoothness.roughness([noise]) == pytest.approx(10**0.5, abs=0.05)
    assert smoothness.roughness([swing + 0.1 * noise[:1000, 0]]) > 1


def test_settling_is_lasting() -> None:
    error = np.array([9.0, 2.0, 9, 9, 9, 2, 2, 2, 2, 2, 2, 2])
    assert settled(error, 3.0) == 5 / MOTION_FPS
    assert settled(np.full(20, 9.0), 3.0) == float("inf")


# Audio


def pitch_of(audio: np.ndarray) -> float:
    middle = audio[4000:12000].astype(float)
    lags = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    return SAMPLE_RATE / (int(np.argmax(lags[40:320])) + 40)


@pytest.mark.parametrize("semitones", [-4, 4])
def test_a_voice_is_shifted_in_pitch_and_not_in_time(semitones: int) -> None:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    audio = np.sin(2 * np.pi * 160 * t + 0.5 * np.sin(2 * np.pi * 160 * t)).astype(np.float32)
    audio[: SAMPLE_RATE // 4] = 0
    moved = corruptions.shifted(audio, semitones)
    assert len(moved) == len(audio)
    assert pitch_of(moved) == pytest.approx(160 * 2 ** (semitones / 12), rel=0.02)
    onset = int(np.argmax(np.abs(moved) > 0.3)) / SAMPLE_RATE
    assert onset == pytest.approx(0.25, abs=0.03)


def test_corruptions_have_their_level_and_are_deterministic() -> None:
    rng = np.random.default_rng(3)
    voice = rng.standard_normal(SAMPLE_RATE).astype(np.float32)
    others = [rng.standard_normal(SAMPLE_RATE).astype(np.float32) for _ in range(2)]
    for name, change in corruptions.kinds(others).items():
        changed = change(voice)
        assert np.array_equal(changed, change(voice)), name
        assert changed.dtype == np.float32 and len(changed) == len(voice)
        if "10 dB" in name:
            ratio = (voice**2).mean() / ((changed - voice) ** 2).mean()
            assert 10 * np.log10(ratio) == pytest.approx(10, abs=0.1)


def test_the_song_has_its_notes() -> None:
    audio, notes = singing.scale()
    assert len(notes) == len(singing.SCALE)
    for note, semitones in list(zip(notes, singing.SCALE, strict=True))[:8]:
        first = int((note.start + 0.05) * SAMPLE_RATE)
        held = audio[first : first + SAMPLE_RATE // 2].astype(float)
        spectrum = np.abs(np.fft.rfft(held * np.hanning(len(held)), 4 * SAMPLE_RATE))
        wanted = singing.LOWEST * 2 ** (semitones / 12)
        # The fundamental or a multiple of it stands out.
        peak = np.argmax(spectrum[: 4 * 900]) / 4
        assert peak / wanted == pytest.approx(round(peak / wanted), abs=0.06)


# Classifier and pipeline


def test_the_classifier_separates_classes() -> None:
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((7, 44))
    samples = [centre + 0.5 * rng.standard_normal((40, 44)) for centre in centres]
    classify = classifier.train(samples)
    others = [centre + 0.5 * rng.standard_normal((40, 44)) for centre in centres]
    assert np.mean([(classify(x) == i).mean() for i, x in enumerate(others)]) > 0.95


def test_batched_and_cached_rows_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    clips = [0.1 * rng.standard_normal(n).astype(np.float32) for n in (9000, 16000)]
    alone, together, kept = (Pipeline(cache=c) for c in (None, tmp_path, tmp_path))
    one = alone.rows(clips[:1])[0]
    both = together.rows(clips)
    again = kept.rows(clips)
    assert len(list(tmp_path.iterdir())) == 2
    for a, b, c in zip(one, both[0], again[0], strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)
    motion = alone.motions([one], seeds=[3])[0]
    assert np.array_equal(together.motions(both, seeds=[3, 4])[0], motion)
    assert motion.shape == (15, 60)
    assert (motion[:, DISTANCE] > 0).all()


def test_cost_and_determinism_of_the_shipped_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    monkeypatch.setattr(cost, "SECONDS", 2.0)
    audio, notes = singing.scale()
    soundfile.write(tmp_path / f"{ENGLISH_VOICE}.opus", audio, SAMPLE_RATE, format="OGG",
                    subtype="OPUS")  # fmt: skip
    phone, end = [PHONE_INDEX[n.vowel] for n in notes], np.array([n.end for n in notes])
    labels: dict[str, np.ndarray] = {
        f"{ENGLISH_VOICE}/phone": np.array(phone, np.int8),
        f"{ENGLISH_VOICE}/end": (end * SAMPLE_RATE).astype(np.int64),
    }
    np.savez(tmp_path / "labels.npz", **labels)
    report = tmp_path / "report"
    context = EvalContext(tracking=tmp_path, names=tmp_path, voices=tmp_path, report=report)
    found = {row.what: row for row in run.run(context, ["cost"]).sections["cost"]}
    assert found["same bits in chunks of any size"].verdict == "PASS"
    assert found["same bits beside other streams"].verdict == "PASS"
    assert found["state of a session, both stages"].verdict == "PASS"
    waited = found["from a frame's beginning to the last sample it waits for"]
    # The encoder's look-ahead and a hop: nothing else may be waited for.
    assert waited.values["generated"] == pytest.approx(120, abs=1)
    assert json.loads((report / "table.json").read_text())["sections"]["cost"]
    assert "same bits" in (report / "table.md").read_text()
