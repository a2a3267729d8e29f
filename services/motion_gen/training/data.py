"""Training streams on the training device: recorded and rule-made motion with behaviour on top.

A stream is `FRAMES` frames of sound and performance. A `Batch` of streams is heard through the
speech encoder under random conditions (noise, room, muted stretches) and gets a new behaviour plan,
head motion and emotion each time it is built (see `synthesis`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkingface.audio_features.contract import SAMPLE_RATE
from talkingface.audio_features.encoder import SpeechEncoder
from talkingface.audio_features.training.augment import Augmenter
from talkingface.common.motion import MOTION_FPS, Array
from talkingface.motion_gen.contract import (
    EXTRA_ROWS,
    FEATURE_DIM,
    HOP,
    PAST,
    ROWS_PER_FRAME,
    SPEECH_DIM,
    STYLES,
)
from talkingface.motion_gen.performance import (
    FACE_COLUMNS,
    FACE_DIM,
    FACE_INDEX,
    GAZE,
    HEAD,
    PERFORMANCE_DIM,
)
from talkingface.motion_gen.training import synthesis, teacher

FRAMES = 320
SAMPLES_PER_FRAME = SAMPLE_RATE // MOTION_FPS
GAP_FRAMES = (0, 40)
FADE = 0.75  # a frame: how a face comes to rest in a pause
PLAN_POOL = 50_000
BLINK = [FACE_INDEX["eyeBlinkLeft"], FACE_INDEX["eyeBlinkRight"]]
# Voices of the speech corpus that serve the teacher; the recorded man has his own lips.
RECORDED_VOICE = "grid"


@dataclass
class Clips:
    """Recorded clips: sound (samples,) int16 and motion by clip."""

    audio: list[NDArray[np.int16]]
    face: list[Array]  # (T, FACE_DIM)
    head: list[Array]  # (T, 6): rotation, translation, log distance


def read_recorded(folder: Path) -> tuple[Clips, Array]:
    """What `prepare` wrote, and the opening by face column (FACE_DIM,)."""
    with np.load(folder / "real.npz") as stored:
        coefficients = stored["coefficients"].astype(np.float32)[:, FACE_COLUMNS] / 255
        pose = stored["pose"].astype(np.float32)
        ends = np.cumsum(stored["frames"])
        opening = stored["opening_map"][FACE_COLUMNS]
    pose[:, -1] = np.log(pose[:, -1])
    coefficients[:, BLINK] = 0
    audio, rate = soundfile.read(folder / "real.ogg", dtype="int16")
    if rate != SAMPLE_RATE:
        raise ValueError(f"real.ogg decodes to {rate} Hz")
    starts = [0, *ends[:-1]]
    spans = [slice(a, b) for a, b in zip(starts, ends, strict=True)]
    sounds = [audio[s.start * SAMPLES_PER_FRAME : s.stop * SAMPLES_PER_FRAME] for s in spans]
    return Clips(sounds, [coefficients[s] for s in spans], [pose[s] for s in spans]), opening


def read_teacher(folder: Path, seed: int, limit_minutes: float) -> Clips:
    """Synthetic voices as clips of `FRAMES` frames, their mouths moved by rule."""
    rng = np.random.default_rng(seed)
    clips = Clips([], [], [])
    with np.load(folder / "labels.npz") as labels:
        names = sorted({key.split("/")[0] for key in labels.files} - {RECORDED_VOICE})
        for name in names:
            audio, rate = soundfile.read(folder / f"{name}.opus", dtype="int16")
            if rate != SAMPLE_RATE:
                raise ValueError(f"{name}.opus decodes to {rate} Hz")
            phone, end = labels[f"{name}/phone"], labels[f"{name}/end"] / SAMPLE_RATE
            total = min(len(audio) // SAMPLES_PER_FRAME, int(limit_minutes * 60 * MOTION_FPS))
            known = int(np.searchsorted(end, total / MOTION_FPS + 1))
            mouth = teacher.animate(
                phone[:known],
                end[:known],
                total,
                amplitude=rng.uniform(0.85, 1.15),
                vigour=rng.uniform(0.8, 1.1),
            )
            for first in range(0, total - FRAMES + 1, FRAMES):
                span = slice(first, first + FRAMES)
                sound = slice(first * SAMPLES_PER_FRAME, (first + FRAMES) * SAMPLES_PER_FRAME)
                clips.audio.append(audio[sound])
                clips.face.append(mouth[span][:, FACE_COLUMNS])
                clips.head.append(np.zeros((FRAMES, 6), np.float32))
    return clips


@dataclass
class Streams:
    """S streams before anything random is heard or added."""

    audio: NDArray[np.int16]  # (S, FRAMES * SAMPLES_PER_FRAME)
    face: Array  # (FRAMES, S, FACE_DIM)
    head: Array  # (FRAMES, S, 6)
    begin: NDArray[np.int64]  # (FRAMES, S) first frame of the unbroken motion that a frame is in
    style: NDArray[np.int64]  # (S,)


def lay_out(clips: Clips, style: int, rng: np.random.Generator) -> Streams:
    """Clips in random order, with pauses between them, in streams of `FRAMES` frames."""
    order = rng.permutation(len(clips.face))
    rows: list[tuple[Array, Array, Array, Array]] = []

    def empty() -> tuple[Array, Array, Array, Array]:
        return (
            np.zeros(FRAMES * SAMPLES_PER_FRAME, np.int16),
            np.zeros((FRAMES, FACE_DIM), np.float32),
            np.zeros((FRAMES, 6), np.float32),
            np.zeros(FRAMES, np.int64),
        )

    at = FRAMES
    for index in order:
        face, head, sound = clips.face[index], clips.head[index], clips.audio[index]
        count = len(face)
        if at + min(count, 75) > FRAMES:
            rows.append(empty())
            at = int(rng.integers(*GAP_FRAMES)) if count < FRAMES and rng.random() < 0.3 else 0
        audio, faces, heads, begin = rows[-1]
        count = min(count, FRAMES - at)
        faces[at : at + count] = face[:count]
        heads[at : at + count] = head[:count]
        audio[at * SAMPLES_PER_FRAME : (at + count) * SAMPLES_PER_FRAME] = sound[
            : count * SAMPLES_PER_FRAME
        ]
        begin[at:] = at
        at += count
        rest = FADE ** np.arange(1, FRAMES - at + 1, dtype=np.float32)[:, None]
        faces[at:] = faces[at - 1] * rest
        heads[at:] = heads[at - 1] * rest
        at += int(rng.integers(*GAP_FRAMES)) if rng.random() < 0.5 else 0
    return Streams(
        np.stack([row[0] for row in rows]),
        np.stack([row[1] for row in rows], axis=1),
        np.stack([row[2] for row in rows], axis=1),
        np.stack([row[3] for row in rows], axis=1),
        np.full(len(rows), style),
    )


def join(parts: list[Streams]) -> Streams:
    """Streams of several kinds as one set."""
    return Streams(
        np.concatenate([part.audio for part in parts]),
        np.concatenate([part.face for part in parts], axis=1),
        np.concatenate([part.head for part in parts], axis=1),
        np.concatenate([part.begin for part in parts], axis=1),
        np.concatenate([part.style for part in parts]),
    )


@dataclass
class Chunks:
    """A batch of B stretches of PAST + n HOP frames, whose last n HOP frames are to be made in
    blocks of HOP."""

    conditions: dict[str, Tensor]  # of all frames, as the model names them; `style` (B, 2)
    frames: Tensor  # (B, PAST + n HOP, PERFORMANCE_DIM)
    valid: Tensor  # (B, n, PAST) whether a past frame of the block belongs to the same motion


class Variant:
    """All streams heard once under random conditions, with one set of behaviour, on a device."""

    def __init__(
        self,
        streams: Streams,
        encoder: SpeechEncoder,
        augmenter: Augmenter | None,
        plans: Array,
        rng: np.random.Generator,
        device: torch.device,
        behave: bool = True,
    ) -> None:
        """
        :param augmenter: None = sound as recorded
        :param plans: (P, 3) from `synthesis.plan_behaviour`, cut at random places
        :param behave: False = only the recorded or rule-made motion
        """
        count = len(streams.audio)
        rows = ROWS_PER_FRAME * FRAMES
        lead = ROWS_PER_FRAME * PAST
        features = torch.zeros(count, lead + rows + EXTRA_ROWS, FEATURE_DIM, dtype=torch.float16)
        self.features = features.to(device)
        self.speech = torch.zeros(count, lead + rows + EXTRA_ROWS, SPEECH_DIM, device=device)
        kept = np.ones((FRAMES, count), np.float32)
        for first in range(0, count, 64):
            part = slice(first, first + 64)
            audio = torch.from_numpy(streams.audio[part]).to(device).float() / 32768.0
            if augmenter is not None:
                audio, keep = augmenter(audio)
                keep = keep.float().unflatten(1, (FRAMES, -1)).mean(2)
                kept[:, part] = keep.T.cpu().numpy()
            heard, speech = encoder.encode(audio)
            self.features[part, lead : lead + rows] = heard.half()
            self.speech[part, lead : lead + rows] = speech
        self.features[:, -EXTRA_ROWS:] = self.features[:, -EXTRA_ROWS - 1, None]
        self.speech[:, -EXTRA_ROWS:] = self.speech[:, -EXTRA_ROWS - 1, None]
        target, plan, emotion = self._perform(streams, kept, plans, rng, behave)

        def put(rows_first: Array) -> Tensor:
            padded = np.concatenate(
                [np.zeros((PAST, *rows_first.shape[1:]), np.float32), rows_first]
            )
            return torch.from_numpy(padded).to(device).transpose(0, 1).contiguous()

        self.target, self.plan, self.emotion = put(target), put(plan), put(emotion)
        self.begin = torch.from_numpy(streams.begin.T.copy()).to(device)
        self.style = torch.eye(len(STYLES), device=device)[torch.from_numpy(streams.style)]

    @staticmethod
    def _perform(
        streams: Streams,
        kept: Array,
        plans: Array,
        rng: np.random.Generator,
        behave: bool,
    ) -> tuple[Array, Array, Array]:
        """Performance (FRAMES, S, PERFORMANCE_DIM), plan (.., 3) and emotion (.., 7)."""
        count = streams.face.shape[1]
        calm = synthesis.smooth(kept, 0.06)[..., None]
        face, head = streams.face * calm, streams.head * calm
        target = np.zeros((FRAMES, count, PERFORMANCE_DIM), np.float32)
        plan = np.zeros((FRAMES, count, 3), np.float32)
        emotion = np.zeros((FRAMES, count, synthesis.EMOTION_DIM), np.float32)
        if behave:
            at = rng.integers(len(plans) - FRAMES, size=count)
            plan = np.stack([plans[a : a + FRAMES] for a in at], axis=1)
            emotion = synthesis.emotion_track(rng, FRAMES, count)
            face = face + emotion @ synthesis.EMOTION_TEMPLATES
            closure = plan[..., 0] * rng.uniform(0.93, 1.03, (1, count)).astype(np.float32)
            face[..., BLINK] = np.maximum(face[..., BLINK], closure[..., None])
            target[..., GAZE] = synthesis.realise_gaze(rng, plan[..., 1:])
        target[..., :FACE_DIM] = np.clip(face, 0, 1)
        target[..., HEAD] = head
        return target, plan, emotion

    @property
    def streams(self) -> int:
        return len(self.target)

    def chunks(self, stream: Tensor, start: Tensor, blocks: int) -> Chunks:
        """Stretches whose first new frame is `start` (B,) of `stream` (B,)."""
        device = stream.device
        length = PAST + HOP * blocks
        frame = start[:, None] + torch.arange(length, device=device)
        row = ROWS_PER_FRAME * start[:, None] + torch.arange(
            ROWS_PER_FRAME * length + EXTRA_ROWS, device=device
        )
        index = stream[:, None]
        first = start[:, None] + HOP * torch.arange(blocks, device=device)
        age = first[:, :, None] - torch.arange(PAST, 0, -1, device=device)
        conditions = {
            "features": self.features[index, row].float(),
            "speech": self.speech[index, row],
            "behaviour": self.plan[index, frame],
            "emotion": self.emotion[index, frame],
            "style": self.style[stream],
        }
        valid = (age >= self.begin[index, first][:, :, None]).float()
        return Chunks(conditions, self.target[index, frame], valid)

    def random_chunks(self, count: int, blocks: int, generator: torch.Generator) -> Chunks:
        """`count` stretches from anywhere."""
        device = self.target.device
        last = FRAMES - HOP * blocks + 1
        stream = torch.randint(self.streams, (count,), generator=generator, device=device)
        start = torch.randint(last, (count,), generator=generator, device=device)
        return self.chunks(stream, start, blocks)
