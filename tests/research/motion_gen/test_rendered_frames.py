"""Measures of faces in rendered frames, on landmarks whose movements are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkingface.contract.controls import CONTROL_RANGES
from talkingface.contract.motion import ARKIT_DIM, ARKIT_INDEX
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import PHONE_INDEX
from talkingface.renderer.face.model import FaceModel
from talkingface_research.motion_gen.evaluation import (
    curves,
    features,
    gallery,
    phones,
    rendered,
    ridge,
    shapes,
    speech_clips,
    theval,
)
from talkingface_research.motion_gen.evaluation.context import EvalContext
from talkingface_research.motion_gen.evaluation.pipeline import Rows
from talkingface_research.motion_gen.evaluation.sections import articulation, expression

FACE = 160.0  # pixels of a face's width


def faces(
    coefficients: dict[str, np.ndarray] | None = None,
    pose: np.ndarray | None = None,
    frames: int = 50,
) -> np.ndarray:
    """Landmarks (frames, 478, 3) in pixels of the mean face with coefficients by name, turned by
    pitch, yaw, roll in degrees (frames, 3), in orthographic projection."""
    model = FaceModel.load()
    motion = np.zeros((frames, ARKIT_DIM), np.float32)
    for name, track in (coefficients or {}).items():
        motion[:, ARKIT_INDEX[name]] = track
    points = model.landmarks(np.zeros(len(model.identity), np.float32), motion).astype(float)
    points = points * np.array([1.0, -1.0, -1.0])
    points *= FACE / np.linalg.norm(points[0, 234] - points[0, 454])
    if pose is not None:
        turns = Rotation.from_euler("YXZ", pose[:, [1, 0, 2]], degrees=True).as_matrix()
        points = np.einsum("tij,tnj->tni", turns, points)
    return (points + np.array([256.0, 256.0, 0.0])).astype(np.float32)


def wave(frames: int = 50, hertz: float = 1.0, phase: float = 0.0) -> curves.Curve:
    return np.asarray(np.sin(2 * np.pi * hertz * np.arange(frames) / MOTION_FPS + phase))


# Features


def test_the_angles_of_the_head_are_found() -> None:
    pose = np.stack([8 * wave(), 12 * wave(hertz=0.7), 5 * wave(hertz=1.3)], axis=1)
    found = features.head(faces(pose=pose))
    assert found.angles == pytest.approx(pose, abs=0.05)
    assert found.size == pytest.approx(np.full(50, FACE), rel=0.01)


def test_lips_in_the_heads_frame_do_not_depend_on_its_turns() -> None:
    opened = {"jawOpen": 0.3 + 0.3 * wave()}
    pose = np.stack([10 * wave(hertz=0.8), 15 * wave(hertz=0.5), 8 * wave()], axis=1)
    still, turned = (features.in_head(faces(opened, p), theval.LIPS) for p in (None, pose))
    assert turned == pytest.approx(still, abs=1e-3)


def test_each_feature_moves_with_what_moves_it() -> None:
    up = np.full(50, 0.5)
    rest = {k: v.mean() for k, v in features.measured(faces()).items()}

    def change(*names: str) -> dict[str, float]:
        moved = features.measured(faces(dict.fromkeys(names, up)))
        return {name: track.mean() - rest[name] for name, track in moved.items()}

    assert change("jawOpen")["opening"] > 5
    assert change("jawOpen")["chin"] > 3
    assert change("mouthPucker")["width"] < -2
    assert change("mouthStretchLeft", "mouthStretchRight")["width"] > 1
    assert change("mouthSmileLeft", "mouthSmileRight")["corners"] > 1
    assert change("mouthUpperUpLeft", "mouthUpperUpRight")["upper lip"] < -0.5
    assert change("browOuterUpLeft", "browOuterUpRight", "browInnerUp")["brow"] > 1
    blink = change("eyeBlinkLeft", "eyeBlinkRight")
    assert blink["lids"] < -10
    assert abs(blink["brow over eye corners"]) < 0.2 < abs(blink["brow"])


def test_features_do_not_depend_on_the_size_of_the_face() -> None:
    moving = faces({"jawOpen": 0.3 + 0.3 * wave(), "mouthPucker": 0.3 + 0.3 * wave(hertz=2.0)})
    large = features.measured(2.5 * moving)
    for name, track in features.measured(moving).items():
        if name != "size":
            assert large[name].std() == pytest.approx(track.std(), rel=1e-3, abs=1e-3), name


def test_deviation_is_within_windows() -> None:
    drift = np.concatenate([np.zeros(250), np.full(250, 9.0)]) + wave(500)
    assert features.deviation([drift]) == pytest.approx(1 / math.sqrt(2), rel=0.02)
    assert len(features.windows(np.zeros(200))) == 1
    assert [len(part) for part in features.windows(np.zeros(750))] == [250] * 3


def test_bands_are_separate() -> None:
    found = features.bands([2.0 * wave(1500, hertz=0.6, phase=phase) for phase in (0.0, 1.0)])
    assert found[1] == pytest.approx(math.sqrt(2), rel=0.1)
    assert max(found[0], *found[2:]) < 0.3


def test_only_a_mouth_that_follows_loudness_correlates_with_it() -> None:
    rng = np.random.default_rng(0)
    levels = [curves.band_passed(rng.standard_normal(250), (0.3, 2.0)) for _ in range(12)]
    late = [5 * curves.shifted(level, 2, 250) for level in levels]
    r, lag = features.with_loudness(late, levels)
    assert r > 0.93 and lag == 2
    assert features.with_loudness([-track for track in late], levels)[0] < -0.93
    other, _ = features.with_loudness([*late[1:], late[0]], levels)
    assert abs(other) < 0.35
    assert abs(features.largest_with_loudness(late, levels)[0]) > 0.93
    assert features.largest_with_loudness(late, levels)[1] == pytest.approx(2)


def test_jerk_measures_trembling() -> None:
    smooth, shaking = wave(500, 0.5), wave(500, 0.5) + 0.1 * np.tile([1.0, -1.0], 250)
    assert features.jerk([shaking]) == pytest.approx(0.8, abs=0.05)
    assert features.jerk([smooth]) < 0.01


def test_loudness_has_a_floor() -> None:
    level = features.loudness(np.array([1.0, 0.1, 1e-9]))
    assert level == pytest.approx([0.0, -20.0, -50.0], abs=1e-3)


# THEval


def test_lip_dynamics_is_the_mean_spread_of_distances() -> None:
    points = np.zeros((4, 478, 2))
    points[:, theval.LIPS[0], 0] = [0.0, 2.0, 0.0, 2.0]  # one point moves away from 39 at one place
    pairs = len(theval.LIPS) * (len(theval.LIPS) - 1) / 2
    assert theval.lip_dynamics(points) == pytest.approx(39 / pairs)


def test_faces_are_scaled_to_one_size() -> None:
    opened = faces({"jawOpen": 0.4 + 0.4 * wave()})
    points = theval.scaled(opened)
    width = np.linalg.norm(points[:, 234] - points[:, 454], axis=1)
    assert np.median(width) == pytest.approx(theval.FACE_PIXELS)
    bigger = theval.scaled(np.float32(3) * opened)
    assert theval.lip_dynamics(bigger) == pytest.approx(theval.lip_dynamics(points), rel=1e-5)


def test_brow_dynamics_counts_steps_over_the_eyes_distance() -> None:
    points = np.zeros((3, 478, 2))
    points[:, theval.EYE_RINGS[1], 0] = 50.0
    points[:, theval.BROW_RINGS[1], 0] = 50.0
    for ring in theval.BROW_RINGS:
        points[:, ring, 1] = np.array([[-10.0], [-15.0], [-10.0]])
    assert theval.brow_dynamics(points) == pytest.approx(5 / 50)


def test_only_long_silences_count() -> None:
    speaking = np.ones(60, bool)
    speaking[10:17] = False  # 280 ms
    speaking[30:38] = False  # 320 ms
    speaking[55:] = False  # 200 ms
    assert np.flatnonzero(theval.silences(speaking)).tolist() == list(range(30, 38))


def test_silent_lips_are_measured_in_silence_alone() -> None:
    speaking = np.zeros(40, bool)
    speaking[:20] = True
    points = np.zeros((40, 478, 2))
    points[:, theval.OUTER_EYE_CORNERS[1], 0] = 100.0
    points[:, theval.INNER_LOWER, 1] = 20.0 * np.random.default_rng(0).random((40, 1))
    points[20:, theval.INNER_LOWER, 1] = np.tile([[1.0], [3.0]], (10, 1))
    assert theval.silent_lips(points, speaking) == pytest.approx(0.01)
    assert math.isnan(theval.silent_lips(points, np.ones(40, bool)))


def test_lips_in_step_with_loudness_have_no_sync_error() -> None:
    energy = np.abs(wave(100))
    points = np.zeros((100, 478, 2))
    points[:, theval.EYE_CORNERS[1], 0] = 60.0
    points[:, theval.INNER_LOWER, 1] = (2 + 7 * energy)[:, None]
    every = np.ones(100, bool)
    assert theval.lip_sync(points, energy, every) == pytest.approx(0, abs=1e-6)
    assert theval.lip_sync(points, 1.0 - energy, every) > 0.4
    assert math.isnan(theval.lip_sync(points, energy, np.zeros(100, bool)))


def test_head_motion_by_its_formula() -> None:
    points = np.zeros((100, 478, 2))
    points[:, :, 0] = (3 * wave(100))[:, None]
    angles = np.tile((4 * wave(100))[:, None], (1, 3))
    wanted = angles[:, 0].std() * np.diff(angles[:, 0]).var() + points[:, 0, 0].var() / 2
    assert theval.head_motion(points, angles) == pytest.approx(math.sqrt(wanted))


def test_energy_is_interpolated_at_the_frames() -> None:
    audio = np.zeros(SAMPLE_RATE, np.float32)
    audio[SAMPLE_RATE // 2 :] = 0.5
    energy = theval.energy_at_frames(audio, SAMPLE_RATE, 24)
    assert energy[:11].max() < 0.01
    assert energy[15:] == pytest.approx(np.full(9, 0.5), abs=0.01)


def test_scores_and_means() -> None:
    real = {"lip dynamics": 2.0}
    assert theval.score({"lip dynamics": 1.0}, real) == {"lip dynamics": 0.5}
    assert theval.score({"lip dynamics": 3.0}, real) == {"lip dynamics": 0.5}
    clips = [dict.fromkeys(theval.BOARD_REAL, x) for x in (1.0, math.nan, 3.0)]
    assert theval.mean(clips) == dict.fromkeys(theval.BOARD_REAL, 2.0)


# Shapes, ridge, clocks


def test_rest_drop_and_lift() -> None:
    jaw = np.zeros(50)
    jaw[20:30] = 0.4
    found = shapes.mouth(faces({"jawOpen": jaw}))
    assert found.drop[25] > 0.04 > abs(found.drop[5])
    assert abs(found.lift[25]) < found.drop[25]
    rolled = shapes.mouth(faces({"jawOpen": jaw, "mouthRollLower": 2 * jaw}))
    assert rolled.lift[25] < found.lift[25]
    assert found.moved[:10] == pytest.approx(0, abs=1e-4)


def spoken(*names: str, seconds: float = 0.4) -> phones.Phones:
    return phones.Phones(
        np.array([PHONE_INDEX[n] for n in names], np.int8), seconds * np.arange(1, len(names) + 1)
    )


def test_a_phone_counts_in_its_middle() -> None:
    due = shapes.expected(spoken("sil", "iy", "t", "uw"), 40)
    names = [*shapes.SHAPES, ""]
    found = [names[i] for i in due]
    assert found[3:7] == ["rest"] * 4
    assert set(found[:2]) | set(found[8:12]) == {""}
    assert found[13:17] == ["ee"] * 4
    assert set(found[20:30]) == {""}
    short = shapes.expected(spoken("t", "m", "t", seconds=0.04), 3)
    assert [names[i] for i in short] == ["", "m", ""]


def test_shapes_are_classified_by_lips() -> None:
    rng = np.random.default_rng(1)
    pulls = (
        "mouthStretchLeft", "jawOpen", "mouthPucker", "mouthFunnel", "mouthRollLower",
        "mouthPressLeft",
    )  # fmt: skip
    lips, labels = [], []
    for _ in range(6):
        due = rng.integers(0, len(shapes.SHAPES), 80)
        made = {
            name: np.where(due == i, 0.6, 0.0) + 0.05 * rng.random(80)
            for i, name in enumerate(pulls)
        }
        lips.append(shapes.mouth(faces(made, frames=80)).moved)
        labels.append(due)
    classify = shapes.ShapeClassifier(lips[:4], labels[:4])
    predicted = np.concatenate([classify(one) for one in lips[4:]])
    found = shapes.recalls(predicted, np.concatenate(labels[4:]))
    assert np.mean(list(found.values())) > 0.9
    wrong = shapes.recalls(predicted, np.concatenate(labels[:2]))
    assert np.mean(list(wrong.values())) < 0.35


def test_ridge_learns_what_is_linear_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((300, 20)) for _ in range(5)]
    weights = rng.standard_normal((20, 2))
    fit = ridge.Ridge(inputs[:4], [one @ weights + 3.0 for one in inputs[:4]], alpha=1.0)
    assert fit(inputs[4]) == pytest.approx(inputs[4] @ weights + 3, abs=0.1)
    shuffled = ridge.Ridge(inputs[:4], [rng.standard_normal((300, 2)) for _ in range(4)], alpha=1.0)
    assert shuffled(inputs[4]).std() < 0.3 < 3 * fit(inputs[4]).std()


def test_a_frame_of_the_ridge_has_the_input_rows_of_a_motion_frame() -> None:
    rows = Rows(np.zeros((100, 128), np.float32), np.zeros((100, 4), np.float32))
    rows.features[:, -1] = np.arange(100)
    found = ridge.window(rows, 40).reshape(40, -1, 92)[:, :, 87]
    assert found[20].tolist() == list(range(30, 43))  # 2 * 20 - 10 .. 2 * 20 + 2
    assert found[0].tolist() == [0] * 10 + [0, 1, 2]


def test_the_bootstrap_interval_contains_the_correlation() -> None:
    rng = np.random.default_rng(3)
    real = [curves.band_passed(rng.standard_normal(100)) for _ in range(30)]
    made = [
        curves.shifted(track, 1, 100) + 0.5 * curves.band_passed(rng.standard_normal(100))
        for track in real
    ]
    r, lag = curves.lagged_correlation(made, real, [0] * 30)
    low, high = curves.bootstrap(made, real, lag)
    assert low < r < high and high - low < 0.2
    assert curves.bootstrap([*made[1:], made[0]], real, lag)[1] < 0.3


def test_audio_is_delayed_and_cut() -> None:
    audio = np.arange(1000, dtype=np.float32)
    later = speech_clips.delayed(audio, 10)
    assert len(later) == 1000 and later[160] == 0 and later[161] == 1 and not later[:160].any()
    sooner = speech_clips.delayed(audio, -10)
    assert sooner[0] == 160 and sooner[839] == 999 and not sooner[840:].any()
    clip = speech_clips.SpeechClip("a", np.zeros(3 * SAMPLE_RATE, np.float32), faces(frames=75))
    assert clip.first(2.0).frames == 50 and len(clip.first(2.0).audio) == 2 * SAMPLE_RATE


def test_real_clips_are_put_on_one_clock(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    loud = np.clip(2 + curves.band_passed(rng.standard_normal(200)) * 2, 0.05, None)
    audio = rng.standard_normal(200 * 640) * np.repeat(loud, 640) * 3000
    landmarks = faces({"jawOpen": 0.1 * curves.shifted(loud, 3, 200)}, frames=200)
    np.savez(
        tmp_path / "a.npz", landmarks=landmarks, fps=np.float32(25), audio=audio.astype(np.int16)
    )
    (clip,) = speech_clips.on_one_clock("anyone", [tmp_path / "a.npz"])
    assert clip.delay == pytest.approx(0.12)
    known = tmp_path / "RD_Radio34.npz"
    (tmp_path / "a.npz").rename(known)
    assert speech_clips.on_one_clock("anyone", [known])[0].delay == pytest.approx(0.04)


# Rendered frames


class FakeLandmarker:
    """Finds a face in bright frames alone; the value of its points is the brightness."""

    def points(self, image: np.ndarray) -> np.ndarray:
        level = float(image.mean())
        return np.full((478, 3), level if level > 50 else np.nan, np.float32)


def readback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[rendered.Readback, Path]:
    task, photo = tmp_path / "landmarker.task", tmp_path / "face.png"
    task.write_bytes(b"model")
    photo.write_bytes(b"photo")
    made = rendered.Readback(task, tmp_path)
    monkeypatch.setattr(rendered, "Landmarker", lambda path: FakeLandmarker())
    monkeypatch.setattr(
        rendered.Readback,
        "renderer",
        lambda self, photo: lambda frame: np.full((8, 8, 3), frame[0], np.uint8),
    )
    return made, photo


def test_landmarks_are_cached_by_all_that_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, photo = readback(tmp_path, monkeypatch)
    motion = np.full((10, 60), 100.0, np.float32)
    first = made.landmarks(photo, motion)
    assert made.rendered == 10 and np.array_equal(made.landmarks(photo, motion), first)
    assert made.rendered == 10
    made.landmarks(photo, motion + 1)
    assert made.rendered == 20
    photo.write_bytes(b"another")
    made.landmarks(photo, motion)
    assert made.rendered == 30


def test_single_frames_without_a_face_are_interpolated_and_many_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, photo = readback(tmp_path, monkeypatch)
    motion = np.full((20, 60), 100.0, np.float32)
    motion[5] = 0
    assert made.landmarks(photo, motion)[5, 0, 0] == pytest.approx(100)
    motion[:10] = 0
    with pytest.raises(rendered.FaceLost, match=r"face\.png"):
        made.landmarks(photo, motion)


def test_the_sections_report_missing_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = EvalContext(tracking=tmp_path, names=tmp_path, voices=tmp_path, report=tmp_path)
    assert expression.measure(context) == [] and articulation.measure(context) == []
    message = capsys.readouterr().err
    assert "--portraits" in message and "--portrait" in message


def test_both_ends_of_expressivity_are_shown() -> None:
    low, high = (controls.expressivity for controls in expression.SETTINGS.values())
    assert (low, high) == CONTROL_RANGES["expressivity"]


def test_a_clip_of_face_and_speech() -> None:
    audio = np.zeros(2 * SAMPLE_RATE, np.float32)
    audio[:SAMPLE_RATE] = 0.5
    speech = np.zeros((100, 4), np.float32)
    speech[:50, 0] = 1.0
    clip = expression.make_clip(speech_clips.SpeechClip("a", audio), faces(frames=48), speech)
    assert len(clip.level) == len(clip.speaking) == 48
    assert clip.speaking[:25].all() and not clip.speaking[25:].any()
    assert clip.level[10] - clip.level[40] == pytest.approx(50, abs=0.1)
    assert clip.theval["silent lips"] == 0


def test_the_liveliest_part_is_shown() -> None:
    track = np.zeros(200)
    track[120:150] = wave(30, 3.0)
    assert gallery.liveliest(track, 25) in range(115, 131)
    assert gallery.liveliest(track[:20], 25) == 0
