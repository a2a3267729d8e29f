"""Training streams on the training device: recorded, revoiced and rule-made motion.

A stream is `FRAMES` frames of sound and canonical motion. A `Variant` of streams is heard through
the speech encoder, as recorded or under random conditions (noise, room, muted stretches), and gets
a behaviour plan and emotions of its own (see `synthesis`). Three kinds of streams:

- recorded: a man's clips, his voice and his face;
- revoiced: his face under other voices that say the same (`revoice`);
- taught: voices that say anything, with phone times: they teach the seals of the lips alone, and
  how large and how loudness-bound lips come out whose size nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from talkingface.contract.motion import Array
from talkingface.contract.rates import MOTION_FPS, SAMPLE_RATE
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.canonical_motion import (
    CANONICAL_DIM,
    FACE_COLUMNS,
    FACE_DIM,
    FACE_INDEX,
    GAZE,
    HEAD,
    MOUTH,
)
from talkingface.motion_gen.windows import (
    EXTRA_ROWS,
    HISTORY_ROWS,
    PAST,
    RECEPTIVE_ROWS,
    ROWS_PER_FRAME,
    SPAN,
)
from talkingface_research.audio_features.network import SpeechEncoder
from talkingface_research.audio_features.training.augment import Augmenter
from talkingface_research.audio_features.training.data import read_sound
from talkingface_research.audio_features.training.revoice import (
    Spoken,
    read_spoken,
    revoice,
    time_map,
)
from talkingface_research.motion_gen.lip_network import COMPONENTS, SEALS, LipRegressor
from talkingface_research.motion_gen.training import synthesis, teacher
from talkingface_research.motion_gen.training.lip_shapes import Floats, principal

FRAMES = 320
SAMPLES_PER_FRAME = SAMPLE_RATE // MOTION_FPS
GAP_FRAMES = (0, 40)
OWN = 0.3  # of what a recorded mouth does beside what its voice tells
FADE = 0.75  # a frame: how a face comes to rest in a pause
PLAN_POOL = 50_000
BLINK = [FACE_INDEX["eyeBlinkLeft"], FACE_INDEX["eyeBlinkRight"]]
RECORDED, REVOICED, TAUGHT = range(3)
KINDS = ("recorded", "revoiced", "taught")
# The recorded man's name among the voices.
RECORDED_VOICE = "grid"
TAIL_FRAMES = 15  # kept after a revoiced sentence
LEAST_FRAMES = 40  # of a clip that is cut by a stream's end
# Lips that phone times call closed count as closed when the recorded ones nearly are.
CLOSED_OPENING, CLOSED_SLOPE = 0.010, 0.0015  # face widths


@dataclass
class Clips:
    """Sound and motion by clip."""

    name: list[str]
    audio: list[NDArray[np.int16]]  # (samples,)
    face: list[Array]  # (T, FACE_DIM)
    head: list[Array]  # (T, 6): rotation, translation, log distance
    lips: list[Array]  # (T, COMPONENTS) of their displacement in face widths; 0 = rest
    seal: list[Array]  # (T, 2) of `SEALS`; NaN = not known

    def __len__(self) -> int:
        return len(self.face)

    def add(
        self,
        name: str,
        audio: NDArray[np.int16],
        face: Array,
        head: Array,
        lips: Array,
        seal: Array,
    ) -> None:
        self.name.append(name)
        self.audio.append(audio)
        self.face.append(face)
        self.head.append(head)
        self.lips.append(lips)
        self.seal.append(seal)

    def pick(self, index: list[int]) -> Clips:
        """Some of the clips."""
        return Clips(
            [self.name[i] for i in index],
            [self.audio[i] for i in index],
            [self.face[i] for i in index],
            [self.head[i] for i in index],
            [self.lips[i] for i in index],
            [self.seal[i] for i in index],
        )


def no_clips() -> Clips:
    return Clips([], [], [], [], [], [])


def seals(phone: NDArray[np.int8], end: NDArray[np.floating], frames: int) -> Array:
    """When consonants hold the lips, by phone times: (frames, 2)."""
    tracks = teacher.gestures(phone, end, frames)
    return np.stack([tracks[name] for name in SEALS], axis=1).astype(np.float32)


def really(seal: Array, face: Array, opening: Array) -> Array:
    """Closures of `seal` (T, 2) that the recorded `face` (T, FACE_DIM) makes, too."""
    shut = expit((CLOSED_OPENING - face @ opening) / CLOSED_SLOPE)
    out = seal.copy()
    out[:, 0] *= shut
    return out


@dataclass
class Recorded:
    """What is known of the recorded man."""

    clips: Clips
    opening: Array  # (FACE_DIM,) opening of the inner lips by face column
    spoken: dict[str, Spoken]  # phone times by clip
    basis: Floats  # (COMPONENTS, 135) of his lips' displacements


def read_recorded(folder: Path, sentences: Path) -> Recorded:
    """What `prepare` wrote.

    :param sentences: folder with the man's phone times (`grid.npz` and `grid.wav`)
    """
    with np.load(folder / "real.npz") as stored:
        coefficients = stored["coefficients"].astype(np.float32)[:, FACE_COLUMNS] / 255
        pose = stored["pose"].astype(np.float32)
        names = [str(name) for name in stored["clip"]]
        ends = np.cumsum(stored["frames"])
        opening = stored["opening_map"][FACE_COLUMNS]
        moved = stored["lips"].astype(np.float32)
    basis = principal(moved, COMPONENTS)
    lips = (moved @ basis.T).astype(np.float32)
    pose[:, -1] = np.log(pose[:, -1])
    coefficients[:, BLINK] = 0
    audio, rate = soundfile.read(folder / "real.ogg", dtype="int16")
    if rate != SAMPLE_RATE:
        raise ValueError(f"real.ogg decodes to {rate} Hz")
    spoken = {sentence.clip: sentence for sentence in read_spoken(sentences, RECORDED_VOICE)}
    clips = no_clips()
    for name, first, last in zip(names, [0, *ends[:-1]], ends, strict=True):
        face = coefficients[first:last]
        seal = np.full((len(face), len(SEALS)), np.nan, np.float32)
        if name in spoken:
            seal = really(seals(spoken[name].phone, spoken[name].end, len(face)), face, opening)
        sound = audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        clips.add(name, sound, face, pose[first:last], lips[first:last], seal)
    return Recorded(clips, opening, spoken, basis)


def read_revoiced(sentences: Path, voices: list[str], man: Recorded, recorded: Clips) -> Clips:
    """The faces of some of the man's clips under other voices."""
    spoken = man.spoken
    place = {name: i for i, name in enumerate(recorded.name)}
    clips = no_clips()
    for voice in voices:
        for sentence in read_spoken(sentences, voice):
            if sentence.clip not in place or sentence.clip not in spoken:
                continue
            knots = time_map(sentence, spoken[sentence.clip])
            if knots is None:
                continue
            last = int(sentence.spans[1][-1, 1] * MOTION_FPS) + TAIL_FRAMES
            count = min(last, len(sentence.audio) // SAMPLES_PER_FRAME)
            source = place[sentence.clip]
            face = revoice(recorded.face[source], knots, count)
            clips.add(
                voice,
                sentence.audio[: count * SAMPLES_PER_FRAME],
                face,
                revoice(recorded.head[source], knots, count),
                revoice(recorded.lips[source], knots, count),
                really(seals(sentence.phone, sentence.end, count), face, man.opening),
            )
    return clips


def read_taught(folder: Path, without: frozenset[str], minutes: float) -> Clips:
    """Voices of the speech encoder's corpus as clips of `FRAMES` frames: seals, but no faces.

    :param without: voices that are not used
    :param minutes: at most of each voice
    """
    clips = no_clips()
    with np.load(folder / "labels.npz") as labels:
        names = {key.split("/")[0] for key in labels.files} - without
        for name in sorted(names):
            if name.startswith(RECORDED_VOICE):  # his sentences in other voices, too
                continue
            audio = read_sound(folder, name, int(minutes * 60 * SAMPLE_RATE))
            phone, end = labels[f"{name}/phone"], labels[f"{name}/end"] / SAMPLE_RATE
            total = len(audio) // SAMPLES_PER_FRAME
            known = int(np.searchsorted(end, total / MOTION_FPS + 1))
            phone, end = phone[:known], end[:known]
            held = seals(phone, end, total)
            for first in range(0, total - FRAMES + 1, FRAMES):
                span = slice(first, first + FRAMES)
                sound = slice(first * SAMPLES_PER_FRAME, (first + FRAMES) * SAMPLES_PER_FRAME)
                face = np.zeros((FRAMES, FACE_DIM), np.float32)
                head = np.zeros((FRAMES, 6), np.float32)
                lips = np.zeros((FRAMES, COMPONENTS), np.float32)
                clips.add(name, audio[sound], face, head, lips, held[span])
    return clips


@dataclass
class Streams:
    """S streams before anything random is heard or added."""

    audio: NDArray[np.int16]  # (S, FRAMES * SAMPLES_PER_FRAME)
    face: Array  # (FRAMES, S, FACE_DIM)
    head: Array  # (FRAMES, S, 6)
    lips: Array  # (FRAMES, S, COMPONENTS)
    seal: Array  # (FRAMES, S, 2)
    begin: NDArray[np.int64]  # (FRAMES, S) first frame of the unbroken motion that a frame is in
    kind: NDArray[np.int64]  # (S,)


def lay_out(clips: Clips, kind: int, rng: np.random.Generator) -> Streams:
    """Clips in random order, with pauses between them, in streams of `FRAMES` frames."""
    rows: list[tuple[Array, Array, Array, Array, Array, Array]] = []

    def empty() -> tuple[Array, Array, Array, Array, Array, Array]:
        return (
            np.zeros(FRAMES * SAMPLES_PER_FRAME, np.int16),
            np.zeros((FRAMES, FACE_DIM), np.float32),
            np.zeros((FRAMES, 6), np.float32),
            np.zeros((FRAMES, COMPONENTS), np.float32),
            np.zeros((FRAMES, len(SEALS)), np.float32),
            np.zeros(FRAMES, np.int64),
        )

    at = FRAMES
    for index in rng.permutation(len(clips)):
        face, sound = clips.face[index], clips.audio[index]
        count = len(face)
        if at + min(count, LEAST_FRAMES) > FRAMES:
            rows.append(empty())
            at = int(rng.integers(*GAP_FRAMES)) if count < FRAMES and rng.random() < 0.3 else 0
        audio, faces, heads, lips, held, begin = rows[-1]
        count = min(count, FRAMES - at)
        span = slice(at, at + count)
        faces[span], heads[span] = face[:count], clips.head[index][:count]
        lips[span] = clips.lips[index][:count]
        held[span] = clips.seal[index][:count]
        audio[at * SAMPLES_PER_FRAME : (at + count) * SAMPLES_PER_FRAME] = sound[
            : count * SAMPLES_PER_FRAME
        ]
        begin[at:] = at
        at += count
        rest = FADE ** np.arange(1, FRAMES - at + 1, dtype=np.float32)[:, None]
        faces[at:] = faces[at - 1] * rest
        heads[at:] = heads[at - 1] * rest
        lips[at:] = lips[at - 1] * rest
        at += int(rng.integers(*GAP_FRAMES)) if rng.random() < 0.5 else 0
    return Streams(
        audio=np.stack([row[0] for row in rows]),
        face=np.stack([row[1] for row in rows], axis=1),
        head=np.stack([row[2] for row in rows], axis=1),
        lips=np.stack([row[3] for row in rows], axis=1),
        seal=np.stack([row[4] for row in rows], axis=1),
        begin=np.stack([row[5] for row in rows], axis=1),
        kind=np.full(len(rows), kind),
    )


def join(parts: list[Streams]) -> Streams:
    """Streams of several kinds as one set."""
    return Streams(
        np.concatenate([part.audio for part in parts]),
        np.concatenate([part.face for part in parts], axis=1),
        np.concatenate([part.head for part in parts], axis=1),
        np.concatenate([part.lips for part in parts], axis=1),
        np.concatenate([part.seal for part in parts], axis=1),
        np.concatenate([part.begin for part in parts], axis=1),
        np.concatenate([part.kind for part in parts]),
    )


@dataclass
class Chunks:
    """A batch of B stretches of PAST + n SPAN frames, whose last n SPAN frames are to be made in
    blocks of SPAN."""

    conditions: dict[str, Tensor]  # of all frames, as the model names them
    frames: Tensor  # (B, PAST + n SPAN, CANONICAL_DIM)
    valid: Tensor  # (B, n, PAST) whether a past frame of the block belongs to the same motion


@dataclass
class Mouths:
    """N single frames: what each hears and what mouth it should have."""

    features: Tensor  # (N, RECEPTIVE_ROWS, 128)
    speech: Tensor  # (N, RECEPTIVE_ROWS, 4)
    lips: Tensor  # (N, COMPONENTS) in face widths
    seal: Tensor  # (N, 2)
    kind: Tensor  # (N,)


class Variant:
    """All streams heard once, with one set of behaviour, on a device."""

    def __init__(
        self,
        streams: Streams,
        encoder: SpeechEncoder,
        augmenter: Augmenter | None,
        plans: Array,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        """
        :param augmenter: None = sound as recorded
        :param plans: (P, 3) from `synthesis.plan_behaviour`, cut at random places
        """
        count = len(streams.audio)
        rows = ROWS_PER_FRAME * FRAMES
        lead = HISTORY_ROWS + ROWS_PER_FRAME * PAST
        features = torch.zeros(count, lead + rows + EXTRA_ROWS, FEATURE_DIM, dtype=torch.float16)
        self.features = features.to(device)
        self.speech = torch.zeros(count, lead + rows + EXTRA_ROWS, SPEECH_DIM, device=device)
        kept = np.ones((FRAMES, count), np.float32)
        for first in range(0, count, 32):
            part = slice(first, first + 32)
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
        calm = synthesis.smooth(kept, 0.06)[..., None]
        target, plan, emotion = self._perform(streams, calm, plans, rng)

        def put(rows_first: Array) -> Tensor:
            padded = np.concatenate(
                [np.zeros((PAST, *rows_first.shape[1:]), np.float32), rows_first]
            )
            return torch.from_numpy(padded).to(device).transpose(0, 1).contiguous()

        self.target, self.plan, self.emotion = put(target), put(plan), put(emotion)
        self.lips, self.seal = put(streams.lips * calm), put(streams.seal * calm)
        self.begin = torch.from_numpy(streams.begin.T.copy()).to(device)
        self.kind = torch.from_numpy(streams.kind).to(device)
        self._performed = torch.nonzero(self.kind != TAUGHT)[:, 0]

    @staticmethod
    def _perform(
        streams: Streams, calm: Array, plans: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Canonical motion (FRAMES, S, CANONICAL_DIM), plan (.., 3) and emotion (.., 7).

        What the planner adds after the network, most of the head's motion and brows, is not in it.
        """
        count = streams.face.shape[1]
        target = np.zeros((FRAMES, count, CANONICAL_DIM), np.float32)
        at = rng.integers(len(plans) - FRAMES, size=count)
        plan = np.stack([plans[a : a + FRAMES] for a in at], axis=1)
        emotion = synthesis.emotion_track(rng, FRAMES, count)
        face = streams.face * calm + emotion @ synthesis.EMOTION_TEMPLATES
        closure = plan[..., 0] * rng.uniform(0.93, 1.03, (1, count)).astype(np.float32)
        face[..., BLINK] = np.maximum(face[..., BLINK], closure[..., None])
        target[..., GAZE] = synthesis.realise_gaze(rng, plan[..., 1:])
        target[..., :FACE_DIM] = np.clip(face, 0, 1)
        target[..., HEAD] = streams.head * calm
        return target, plan, emotion

    @torch.no_grad()
    def dress(self, lips: LipRegressor, mouth: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Give the faces that are to be made their mouths, emotions on top: what the voice tells,
        and a part of what the man's own mouth does beside it.

        All of it would teach the transformer to draw lively lips back to one man's mean.

        :param mouth: components (S, T, COMPONENTS) and presence (S, T, 1) to coefficients
        """
        shapes = torch.from_numpy(synthesis.EMOTION_TEMPLATES[:, MOUTH]).to(self.emotion)
        self.own_mouth = torch.zeros_like(self.target[..., MOUTH])
        for part in torch.arange(self.streams, device=self.target.device).split(64):
            told, _ = lips(self.features[part].float(), self.speech[part])
            own = mouth(self.lips[part], lips.presence(self.speech[part]))
            self.own_mouth[part] = own
            shown = self.emotion[part] @ shapes
            self.target[part, :, MOUTH] = (told + OWN * (own - told) + shown).clamp(0, 1)

    @property
    def streams(self) -> int:
        return len(self.target)

    def chunks(self, stream: Tensor, start: Tensor, blocks: int) -> Chunks:
        """Stretches whose first new frame is `start` (B,) of `stream` (B,)."""
        device = stream.device
        length = PAST + SPAN * blocks
        frame = start[:, None] + torch.arange(length, device=device)
        row = ROWS_PER_FRAME * start[:, None] + torch.arange(
            HISTORY_ROWS + ROWS_PER_FRAME * length + EXTRA_ROWS, device=device
        )
        index = stream[:, None]
        first = start[:, None] + SPAN * torch.arange(blocks, device=device)
        age = first[:, :, None] - torch.arange(PAST, 0, -1, device=device)
        conditions = {
            "features": self.features[index, row].float(),
            "speech": self.speech[index, row],
            "behaviour": self.plan[index, frame],
            "emotion": self.emotion[index, frame],
        }
        valid = (age >= self.begin[index, first][:, :, None]).float()
        return Chunks(conditions, self.target[index, frame], valid)

    def random_chunks(self, count: int, blocks: int, generator: torch.Generator) -> Chunks:
        """`count` stretches from anywhere but the taught streams."""
        device = self.target.device
        last = FRAMES - SPAN * blocks + 1
        pick = torch.randint(len(self._performed), (count,), generator=generator, device=device)
        start = torch.randint(last, (count,), generator=generator, device=device)
        return self.chunks(self._performed[pick], start, blocks)

    def random_mouths(self, counts: tuple[int, ...], generator: torch.Generator) -> Mouths:
        """Single frames from anywhere, so many of each kind (`KINDS`) that there is."""
        device = self.target.device
        streams = []
        for kind, count in enumerate(counts):
            own = torch.nonzero(self.kind == kind)[:, 0]
            if len(own):
                pick = torch.randint(len(own), (count,), generator=generator, device=device)
                streams.append(own[pick])
        stream = torch.cat(streams)
        frame = torch.randint(FRAMES, (len(stream),), generator=generator, device=device)
        row = ROWS_PER_FRAME * (PAST + frame)[:, None] + torch.arange(RECEPTIVE_ROWS, device=device)
        index = stream[:, None]
        return Mouths(
            self.features[index, row].float(),
            self.speech[index, row],
            self.lips[stream, PAST + frame],
            self.seal[stream, PAST + frame],
            self.kind[stream],
        )
