"""Training streams on the training device: recorded, revoiced and rule-made motion.

A stream is `FRAMES` frames of audio and canonical motion. A `Variant` holds the streams' speech
features, of the audio as recorded or under random conditions (noise, room, muted stretches), and
a behaviour plan and emotions of its own (see `synthesis`). Three kinds of streams:

- recorded: the clips of one speaker, audio and face;
- revoiced: the same faces under other voices that say the same (`revoice`);
- audio only: any speech with phone times. It trains the seals of the lips alone, and shows how
  large predicted lips are, and how far they follow the loudness, in voices without a face.
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

from talkingface.contract.arrays import Float32Array
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
from talkingface_research.audio_features.training.data import read_audio
from talkingface_research.audio_features.training.revoice import (
    Sentence,
    read_sentences,
    revoice,
    time_map,
)
from talkingface_research.motion_gen.lip_network import COMPONENTS, SEALS, LipRegressor
from talkingface_research.motion_gen.training import synthesis, teacher
from talkingface_research.motion_gen.training.lip_shapes import Floats, principal

FRAMES = 320
SAMPLES_PER_FRAME = SAMPLE_RATE // MOTION_FPS
GAP_FRAMES = (0, 40)  # between clips of a stream
OWN = 0.3  # of the difference between a recorded mouth and the predicted one, that is kept
FADE = 0.75  # factor a frame with which a face comes to rest in a pause
PLAN_POOL = 50_000  # frames of behaviour plans that streams are cut from
BLINK = [FACE_INDEX["eyeBlinkLeft"], FACE_INDEX["eyeBlinkRight"]]
RECORDED, REVOICED, AUDIO_ONLY = range(3)
KINDS = ("recorded", "revoiced", "audio only")
# The recorded speaker's name among the voices.
RECORDED_VOICE = "grid"
TAIL_FRAMES = 15  # kept after a revoiced sentence
LEAST_FRAMES = 40  # that a clip must have left before a stream's end cuts it
# Lips that phone times call closed count as closed when the recorded ones nearly are.
CLOSED_OPENING, CLOSED_SLOPE = 0.010, 0.0015  # face widths


@dataclass
class Clips:
    """Audio and motion by clip."""

    name: list[str]
    audio: list[NDArray[np.int16]]  # (samples,)
    face: list[Float32Array]  # (T, FACE_DIM)
    head: list[Float32Array]  # (T, 6): rotation, translation, log distance
    lips: list[Float32Array]  # (T, COMPONENTS) of their displacement in face widths; 0 = rest
    seal: list[Float32Array]  # (T, 2) of `SEALS`; NaN = not known

    def __len__(self) -> int:
        return len(self.face)

    def add(
        self,
        name: str,
        audio: NDArray[np.int16],
        face: Float32Array,
        head: Float32Array,
        lips: Float32Array,
        seal: Float32Array,
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


def seals(phone: NDArray[np.int8], end: NDArray[np.float64], frames: int) -> Float32Array:
    """When consonants close the lips or bring the lip to the teeth, by phone times: (frames, 2)."""
    tracks = teacher.gestures(phone, end, frames)
    return np.stack([tracks[name] for name in SEALS], axis=1).astype(np.float32)


def visible_closures(seal: Float32Array, face: Float32Array, opening: Float32Array) -> Float32Array:
    """Closures of `seal` (T, 2) that the recorded `face` (T, FACE_DIM) makes as well."""
    shut = expit((CLOSED_OPENING - face @ opening) / CLOSED_SLOPE)
    out = seal.copy()
    out[:, 0] *= shut
    return out


@dataclass
class RecordedSpeaker:
    """What is known of the recorded speaker."""

    clips: Clips
    opening: Float32Array  # (FACE_DIM,) opening of the inner lips by face column
    spoken: dict[str, Sentence]  # phone times by clip
    basis: Floats  # (COMPONENTS, 135) principal displacements of the lips


def read_recorded(folder: Path, sentences: Path) -> RecordedSpeaker:
    """Read what `prepare` wrote.

    :param sentences: folder with the speaker's phone times (`grid.npz` and `grid.wav`)
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
    spoken = {sentence.clip: sentence for sentence in read_sentences(sentences, RECORDED_VOICE)}
    clips = no_clips()
    for name, first, last in zip(names, [0, *ends[:-1]], ends, strict=True):
        face = coefficients[first:last]
        seal = np.full((len(face), len(SEALS)), np.nan, np.float32)
        if name in spoken:
            seal = visible_closures(
                seals(spoken[name].phone, spoken[name].end, len(face)), face, opening
            )
        samples = audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        clips.add(name, samples, face, pose[first:last], lips[first:last], seal)
    return RecordedSpeaker(clips, opening, spoken, basis)


def read_revoiced(
    sentences: Path, voices: list[str], speaker: RecordedSpeaker, recorded: Clips
) -> Clips:
    """Read the faces of some of the speaker's clips under other voices."""
    spoken = speaker.spoken
    position = {name: i for i, name in enumerate(recorded.name)}
    clips = no_clips()
    for voice in voices:
        for sentence in read_sentences(sentences, voice):
            if sentence.clip not in position or sentence.clip not in spoken:
                continue
            knots = time_map(sentence, spoken[sentence.clip])
            if knots is None:
                continue
            last = int(sentence.spans[1][-1, 1] * MOTION_FPS) + TAIL_FRAMES
            count = min(last, len(sentence.audio) // SAMPLES_PER_FRAME)
            source = position[sentence.clip]
            face = revoice(recorded.face[source], knots, count)
            clips.add(
                voice,
                sentence.audio[: count * SAMPLES_PER_FRAME],
                face,
                revoice(recorded.head[source], knots, count),
                revoice(recorded.lips[source], knots, count),
                visible_closures(seals(sentence.phone, sentence.end, count), face, speaker.opening),
            )
    return clips


def read_audio_only(folder: Path, without: frozenset[str], minutes: float) -> Clips:
    """Read voices of the speech encoder's corpus as clips of `FRAMES` frames: seals, but no faces.

    :param without: voices that are not used
    :param minutes: at most of each voice
    """
    clips = no_clips()
    with np.load(folder / "labels.npz") as labels:
        names = {key.split("/")[0] for key in labels.files} - without
        for name in sorted(names):
            if name.startswith(RECORDED_VOICE):  # the speaker's sentences in other voices as well
                continue
            audio = read_audio(folder, name, int(minutes * 60 * SAMPLE_RATE))
            phone, end = labels[f"{name}/phone"], labels[f"{name}/end"] / SAMPLE_RATE
            total = len(audio) // SAMPLES_PER_FRAME
            known = int(np.searchsorted(end, total / MOTION_FPS + 1))
            phone, end = phone[:known], end[:known]
            seal = seals(phone, end, total)
            for first in range(0, total - FRAMES + 1, FRAMES):
                span = slice(first, first + FRAMES)
                samples = slice(first * SAMPLES_PER_FRAME, (first + FRAMES) * SAMPLES_PER_FRAME)
                face = np.zeros((FRAMES, FACE_DIM), np.float32)
                head = np.zeros((FRAMES, 6), np.float32)
                lips = np.zeros((FRAMES, COMPONENTS), np.float32)
                clips.add(name, audio[samples], face, head, lips, seal[span])
    return clips


@dataclass
class Streams:
    """S streams, before anything random is added."""

    audio: NDArray[np.int16]  # (S, FRAMES * SAMPLES_PER_FRAME)
    face: Float32Array  # (FRAMES, S, FACE_DIM)
    head: Float32Array  # (FRAMES, S, 6)
    lips: Float32Array  # (FRAMES, S, COMPONENTS)
    seal: Float32Array  # (FRAMES, S, 2)
    begin: NDArray[np.int64]  # (FRAMES, S) first frame of the unbroken motion that a frame is in
    kind: NDArray[np.int64]  # (S,)


def lay_out(clips: Clips, kind: int, rng: np.random.Generator) -> Streams:
    """Clips in random order, with pauses between them, in streams of `FRAMES` frames."""
    rows: list[
        tuple[Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array]
    ] = []

    def empty() -> tuple[
        Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array
    ]:
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
        face, samples = clips.face[index], clips.audio[index]
        count = len(face)
        if at + min(count, LEAST_FRAMES) > FRAMES:
            rows.append(empty())
            at = int(rng.integers(*GAP_FRAMES)) if count < FRAMES and rng.random() < 0.3 else 0
        audio, faces, heads, lips, seal, begin = rows[-1]
        count = min(count, FRAMES - at)
        span = slice(at, at + count)
        faces[span], heads[span] = face[:count], clips.head[index][:count]
        lips[span] = clips.lips[index][:count]
        seal[span] = clips.seal[index][:count]
        audio[at * SAMPLES_PER_FRAME : (at + count) * SAMPLES_PER_FRAME] = samples[
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
    """A batch of B chunks of PAST + n SPAN frames, the last n SPAN of which are generated in n
    windows."""

    conditions: dict[str, Tensor]  # of all frames, as the model names them
    frames: Tensor  # (B, PAST + n SPAN, CANONICAL_DIM)
    valid: Tensor  # (B, n, PAST) whether a past frame of the window belongs to the same motion


@dataclass
class LipFrames:
    """N single frames: the speech rows of each and the lips it should have."""

    features: Tensor  # (N, RECEPTIVE_ROWS, 128)
    speech: Tensor  # (N, RECEPTIVE_ROWS, 4)
    lips: Tensor  # (N, COMPONENTS) in face widths
    seal: Tensor  # (N, 2)
    kind: Tensor  # (N,)


class Variant:
    """All streams with speech features and one set of behaviour, on a device.

    Where its shapes say T, there are PAST frames before the streams and FRAMES of them.
    """

    def __init__(
        self,
        streams: Streams,
        encoder: SpeechEncoder,
        augmenter: Augmenter | None,
        plans: Float32Array,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        """
        :param augmenter: None = audio as recorded
        :param plans: (P, 3) from `synthesis.plan_behaviour`, cut at random
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
            rows_features, speech = encoder.encode(audio)
            self.features[part, lead : lead + rows] = rows_features.half()
            self.speech[part, lead : lead + rows] = speech
        self.features[:, -EXTRA_ROWS:] = self.features[:, -EXTRA_ROWS - 1, None]
        self.speech[:, -EXTRA_ROWS:] = self.speech[:, -EXTRA_ROWS - 1, None]
        # Where the augmenter has muted the audio, the face comes to rest.
        audible = synthesis.smooth(kept, 0.06)[..., None]
        target, plan, emotion = self._motion(streams, audible, plans, rng)

        def with_past(rows_first: Float32Array) -> Tensor:
            padded = np.concatenate(
                [np.zeros((PAST, *rows_first.shape[1:]), np.float32), rows_first]
            )
            return torch.from_numpy(padded).to(device).transpose(0, 1).contiguous()

        self.target, self.plan, self.emotion = map(with_past, (target, plan, emotion))
        self.lips = with_past(streams.lips * audible)
        self.seal = with_past(streams.seal * audible)
        self.begin = torch.from_numpy(streams.begin.T.copy()).to(device)
        self.kind = torch.from_numpy(streams.kind).to(device)
        self._with_face = torch.nonzero(self.kind != AUDIO_ONLY)[:, 0]

    @staticmethod
    def _motion(
        streams: Streams, audible: Float32Array, plans: Float32Array, rng: np.random.Generator
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Canonical motion (FRAMES, S, CANONICAL_DIM), plan (.., 3) and emotion (.., 7).

        Most of the head's motion and of the brows' is added by the planner after the network, and
        is not part of it.
        """
        count = streams.face.shape[1]
        target = np.zeros((FRAMES, count, CANONICAL_DIM), np.float32)
        at = rng.integers(len(plans) - FRAMES, size=count)
        plan = np.stack([plans[a : a + FRAMES] for a in at], axis=1)
        emotion = synthesis.emotion_track(rng, FRAMES, count)
        face = streams.face * audible + emotion @ synthesis.EMOTION_TEMPLATES
        closure = plan[..., 0] * rng.uniform(0.93, 1.03, (1, count)).astype(np.float32)
        face[..., BLINK] = np.maximum(face[..., BLINK], closure[..., None])
        target[..., GAZE] = synthesis.realise_gaze(rng, plan[..., 1:])
        target[..., :FACE_DIM] = np.clip(face, 0, 1)
        target[..., HEAD] = streams.head * audible
        return target, plan, emotion

    @torch.no_grad()
    def set_mouths(self, lips: LipRegressor, mouth: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Set the mouths of the target faces: the predicted one, a part of the difference that the
        recorded mouth makes to it, and the emotion.

        With all of the difference, the transformer would learn to move lively lips back to one
        speaker's mean.

        :param mouth: components (S, T, COMPONENTS) and presence (S, T, 1) to coefficients
        """
        shapes = torch.from_numpy(synthesis.EMOTION_TEMPLATES[:, MOUTH]).to(self.emotion)
        self.own_mouth = torch.zeros_like(self.target[..., MOUTH])
        for part in torch.arange(self.streams, device=self.target.device).split(64):
            predicted, _ = lips(self.features[part].float(), self.speech[part])
            own = mouth(self.lips[part], lips.presence(self.speech[part]))
            self.own_mouth[part] = own
            shown = self.emotion[part] @ shapes
            self.target[part, :, MOUTH] = (predicted + OWN * (own - predicted) + shown).clamp(0, 1)

    @property
    def streams(self) -> int:
        return len(self.target)

    def chunks(self, stream: Tensor, start: Tensor, windows: int) -> Chunks:
        """Chunks whose first new frame is `start` (B,) of `stream` (B,), of so many windows."""
        device = stream.device
        length = PAST + SPAN * windows
        frame = start[:, None] + torch.arange(length, device=device)
        row = ROWS_PER_FRAME * start[:, None] + torch.arange(
            HISTORY_ROWS + ROWS_PER_FRAME * length + EXTRA_ROWS, device=device
        )
        index = stream[:, None]
        first = start[:, None] + SPAN * torch.arange(windows, device=device)
        age = first[:, :, None] - torch.arange(PAST, 0, -1, device=device)
        conditions = {
            "features": self.features[index, row].float(),
            "speech": self.speech[index, row],
            "behaviour": self.plan[index, frame],
            "emotion": self.emotion[index, frame],
        }
        valid = (age >= self.begin[index, first][:, :, None]).float()
        return Chunks(conditions, self.target[index, frame], valid)

    def random_chunks(self, count: int, windows: int, generator: torch.Generator) -> Chunks:
        """`count` chunks from anywhere in the streams with faces."""
        device = self.target.device
        last = FRAMES - SPAN * windows + 1
        pick = torch.randint(len(self._with_face), (count,), generator=generator, device=device)
        start = torch.randint(last, (count,), generator=generator, device=device)
        return self.chunks(self._with_face[pick], start, windows)

    def random_lip_frames(self, counts: tuple[int, ...], generator: torch.Generator) -> LipFrames:
        """Single frames from anywhere, `counts` of each kind (`KINDS`) that there is."""
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
        return LipFrames(
            self.features[index, row].float(),
            self.speech[index, row],
            self.lips[stream, PAST + frame],
            self.seal[stream, PAST + frame],
            self.kind[stream],
        )
