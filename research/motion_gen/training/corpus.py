"""All that the motion generator is trained on, and variants of it on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from talkingface.contract.arrays import Float32Array
from talkingface.motion_gen.canonical_motion import FACE_COLUMNS
from talkingface.renderer.face.model import FaceModel
from talkingface_research.audio_features.training.augment import Augmenter
from talkingface_research.audio_features.training.data import HELD_OUT
from talkingface_research.audio_features.training.features import load_encoder
from talkingface_research.motion_gen.training import synthesis
from talkingface_research.motion_gen.training.data import (
    AUDIO_ONLY,
    PLAN_POOL,
    RECORDED,
    REVOICED,
    Clips,
    Streams,
    Variant,
    join,
    lay_out,
    read_audio_only,
    read_recorded,
    read_revoiced,
)
from talkingface_research.motion_gen.training.lip_shapes import LOWER_LIP, UPPER_LIP, lively

VALIDATION_EVERY = 15  # of the recorded clips
# Voices that nothing here is trained on: the evaluation's, and those that validation uses.
EVALUATION_VOICES = frozenset(HELD_OUT)
VALIDATION_VOICES = ("slt_hts", "catalan_ona")
VALIDATION_MINUTES = 2.0  # of each voice
REVOICED_VOICES = ("espeak", "flite_awb", "flite_kal16", "flite_slt", "ked", "piper_joe")
MOUTH_CORNERS = (78, 308)  # landmarks of the inner lips: the subject's right and left


@dataclass
class Sources:
    """Where the data are, and what encodes them."""

    data: Path  # what `prepare` wrote
    sentences: Path  # GRID sentences in other voices, and the speaker's phone times
    speech: Path  # packed voices of the speech encoder's training
    encoder: Path  # its checkpoint or `model.onnx`
    lively: Path  # statistics of lively speakers' lips
    audio_only_minutes: float  # at most, of each packed voice


class Corpus:
    """Clips of all kinds, apart for training and validation, and maps that belong to them."""

    def __init__(self, sources: Sources, device: torch.device, seed: int) -> None:
        self.device = device
        self.rng = np.random.default_rng(seed)
        self.speaker = read_recorded(sources.data, sources.sentences)
        recorded = self.speaker.clips
        self.lively = lively(sources.lively, self.speaker.basis)
        basis = torch.from_numpy(self.speaker.basis.astype(np.float32))
        self.component_opening = basis[:, 3 * UPPER_LIP + 1] - basis[:, 3 * LOWER_LIP + 1]
        self.opening = torch.from_numpy(self.speaker.opening).to(device)
        self.width = torch.from_numpy(width_map()).to(device)
        held_out = range(0, len(recorded), VALIDATION_EVERY)
        self.recorded = recorded.pick([i for i in range(len(recorded)) if i not in held_out])
        self.revoiced = read_revoiced(
            sources.sentences, list(REVOICED_VOICES), self.speaker, self.recorded
        )
        without = EVALUATION_VOICES | set(VALIDATION_VOICES)
        self.audio_only = read_audio_only(sources.speech, without, sources.audio_only_minutes)
        # Validation: recorded clips that are held out, and all clips of unknown voices.
        known = {clip.split("/")[0] for clip in self.audio_only.name} | EVALUATION_VOICES
        self._validation = {
            RECORDED: recorded.pick(list(held_out)),
            REVOICED: read_revoiced(
                sources.sentences, [VALIDATION_VOICES[0]], self.speaker, recorded
            ),
            AUDIO_ONLY: read_audio_only(sources.speech, frozenset(known), VALIDATION_MINUTES),
        }
        self._plans = synthesis.plan_behaviour(self.rng, PLAN_POOL)
        self._encoder = load_encoder(sources.encoder, device)
        self._augmenter = Augmenter(device, seed)

    def summary(self) -> str:
        """Clips by kind, in one line."""
        training = (self.recorded, self.revoiced, self.audio_only)
        return "recorded {} clips, revoiced {}, audio only {}; validation {}, {}, {}".format(
            *(len(clips) for clips in (*training, *self._validation.values()))
        )

    def variant(self, augmented: bool, revoiced: int, audio_only: int) -> Variant:
        """Draw a variant for training: all recorded clips and some of the others.

        :param revoiced: clips at most
        :param audio_only: streams at most
        """
        some_revoiced = self._some(self.revoiced, revoiced)
        parts = [
            lay_out(self.recorded, RECORDED, self.rng),
            lay_out(some_revoiced, REVOICED, self.rng),
        ]
        if audio_only:
            parts.append(lay_out(self._some(self.audio_only, audio_only), AUDIO_ONLY, self.rng))
        return self._encode(join(parts), self._augmenter if augmented else None)

    def validation(self) -> Variant:
        """Clips and voices that are held out, without augmentation."""
        rng = np.random.default_rng(0)
        revoiced = self._validation[REVOICED]
        parts = [
            lay_out(self._validation[RECORDED], RECORDED, rng),
            lay_out(revoiced.pick(list(range(0, len(revoiced), 4))), REVOICED, rng),
            lay_out(self._validation[AUDIO_ONLY], AUDIO_ONLY, rng),
        ]
        return self._encode(join(parts), None)

    def _some(self, clips: Clips, count: int) -> Clips:
        return clips.pick([int(i) for i in self.rng.permutation(len(clips))[:count]])

    def _encode(self, streams: Streams, augmenter: Augmenter | None) -> Variant:
        return Variant(streams, self._encoder, augmenter, self._plans, self.rng, self.device)


def width_map() -> Float32Array:
    """Distance of the mouth's inner corners in face widths by face column: (FACE_DIM,)."""
    shapes = FaceModel.load().landmark_expressions[FACE_COLUMNS]
    right, left = MOUTH_CORNERS
    wide: Float32Array = (shapes[:, left, 0] - shapes[:, right, 0]).astype(np.float32)
    return wide
