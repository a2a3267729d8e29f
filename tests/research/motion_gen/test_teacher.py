"""Training data follow their rules: the teacher, revoiced clips, synthesised gaze."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkingface.contract.motion import ARKIT_INDEX
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface_research.audio_features.training import revoice
from talkingface_research.motion_gen.training import speakers, synthesis, teacher


def spell(text: str, each: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    phone = np.array([PHONE_INDEX[name] for name in text.split()], np.int8)
    return phone, np.cumsum(np.full(len(phone), each))


@pytest.mark.parametrize("each", [0.04, 0.08, 0.15])
@pytest.mark.parametrize("bilabial", ["b", "p", "m"])
def test_bilabials_close_the_lips_between_open_vowels(bilabial: str, each: float) -> None:
    phone, end = spell(f"sil aa aa {bilabial} aa aa sil", each)
    frames = int(end[-1] * MOTION_FPS) + 1
    motion = teacher.animate(phone, end, frames)
    jaw, close = (motion[:, ARKIT_INDEX[name]] for name in ("jawOpen", "mouthClose"))
    open_share = np.where(jaw > 1e-3, 1 - close / np.maximum(jaw, 1e-3), 0)
    spoken = (np.arange(frames) + 0.5) / MOTION_FPS
    near = (spoken > end[2] - 0.06) & (spoken < end[3] + 0.06)
    assert open_share[near].min() < 0.05
    assert jaw[near].max() > 0.05, "the jaw need not close"


def test_rounding_and_spreading_follow_their_vowels() -> None:
    phone, end = spell("sil uw uw uw uw sil iy iy iy iy sil", 0.1)
    motion = teacher.animate(phone, end, 28)
    pucker = motion[:, ARKIT_INDEX["mouthPucker"]]
    stretch = motion[:, ARKIT_INDEX["mouthStretchLeft"]]
    assert pucker.argmax() / MOTION_FPS < 0.5 < stretch.argmax() / MOTION_FPS
    assert pucker.max() > 0.3 and stretch.max() > 0.1


def test_lips_rest_in_silence() -> None:
    phone, end = spell("sil sil sil", 1.0)
    assert np.abs(teacher.animate(phone, end, 75)).max() < 1e-6


def test_realised_gaze_reaches_its_plan() -> None:
    rng = np.random.default_rng(0)
    plan = np.zeros((50, 1, 2), np.float32)
    plan[20:] = (10.0, -25.0)
    gaze = synthesis.realise_gaze(rng, plan)
    assert np.abs(gaze[24:] - plan[24:]).max() < 1.0
    assert np.linalg.norm(gaze[20, 0] - plan[20, 0]) > 2.0, "a large saccade takes its time"


def sentence(text: str, each: list[float]) -> revoice.Sentence:
    phone = np.array([PHONE_INDEX[name] for name in text.split()], np.int8)
    return revoice.Sentence("x", np.zeros(0, np.int16), phone, np.cumsum(each))


def test_a_revoiced_face_moves_at_the_times_of_the_new_voice() -> None:
    recorded = sentence("sil b aa d ih sil", [0.4, 0.08, 0.2, 0.08, 0.12, 0.4])
    faster = sentence("sil b aa d ih sil", [0.2, 0.04, 0.1, 0.04, 0.06, 0.4])
    knots = revoice.time_map(faster, recorded)
    assert knots is not None
    frames = np.arange(40, dtype=np.float32)[:, None]  # the value is the frame number
    moved = revoice.revoice(frames, knots, 15)[:, 0] / MOTION_FPS
    times = np.arange(15) / MOTION_FPS
    for at, was in ((0.2, 0.4), (0.24, 0.48), (0.34, 0.68), (0.44, 0.88)):
        assert np.interp(at, times, moved) == pytest.approx(was, abs=0.03)
    assert (np.diff(moved) > 0).all()


def test_phones_match_across_accents_and_errors() -> None:
    first, second = (
        np.array([PHONE_INDEX[name] for name in text.split()], np.int8)
        for text in ("b ih n b l uw ae t", "b eh n b l uw t n aw")
    )
    pairs = revoice.matched(first, second)
    assert pairs == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 6)]


def test_another_sentence_is_not_revoiced() -> None:
    one = sentence("b ih n b l uw", [0.1] * 6)
    other = sentence("s eh t g r iy n w ih dh", [0.1] * 10)
    assert revoice.time_map(one, other) is None


def test_the_mean_of_other_speakers_is_found_by_word(tmp_path: Path) -> None:
    # Three speakers open their mouths in the first word and close them in the second, each in their
    # own size and from their own rest; the speaker that the prior is for does the opposite.
    feature: list[np.ndarray] = []
    segment: list[tuple[int, int, int, int]] = []
    clip: list[str] = []
    for speaker, size in (("s1", -1.0), ("s2", 1.0), ("s3", 3.0), ("s4", 0.5)):
        for _ in range(3):
            for word, sign in enumerate((1.0, -1.0)):
                segment.append((len(clip), sum(len(part) for part in feature), 8, word))
                curve = sign * size * np.hanning(8) + 10 * size
                feature.append(np.repeat(curve[:, None], speakers.COLUMNS, 1))
            clip.append(f"training/{speaker}/ab")
    path = tmp_path / "speakers.npz"
    np.savez(path, feat=np.concatenate(feature), seg=np.array(segment), clip=np.array(clip))
    others = speakers.Speakers(path, without="s1")
    mouth = others.mouth("ab", np.array([[0.4, 0.8], [0.8, 1.2]]), 40)
    assert np.isnan(mouth[:8]).all()
    assert np.isnan(mouth[31:]).all()
    assert mouth[15, 0] > 1
    assert mouth[25, 0] < -1
