"""What all sections of the table share: recordings, voices, models and generated motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import Controls
from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.audio_features.training.pack import audio_path
from talkingface_research.motion_gen.evaluation import recordings, speech_clips
from talkingface_research.motion_gen.evaluation.phones import Phones, packed, recognised
from talkingface_research.motion_gen.evaluation.pipeline import Pipeline, Rows
from talkingface_research.motion_gen.evaluation.recordings import Recording
from talkingface_research.motion_gen.evaluation.rendered import Readback
from talkingface_research.motion_gen.evaluation.speech_clips import FILMED_NATURAL, SpeechClip
from talkingface_research.motion_gen.training.teacher import animate

# Neither encoder nor generator was trained on these voices.
ENGLISH_VOICE, ITALIAN_VOICE = "flite_rms", "italian_lp"
NATURAL_SECONDS = 10.0  # of each natural recording
QUICK_VOICES = 4  # natural recordings with --quick


@dataclass
class EvalContext:
    """Paths of one evaluation; what is loaded from them is kept."""

    tracking: Path
    names: Path
    voices: Path
    report: Path
    models: Sequence[Path] = ()
    quick: bool = False
    portrait: Path | None = None
    landmarker: Path | None = None
    portraits: Path | None = None
    speech: Path | None = None
    _sets: dict[str, list[Recording]] = field(default_factory=dict)

    @cached_property
    def cache(self) -> Path:
        """Folder of cached results."""
        folder = self.report / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def pipeline(self) -> Pipeline:
        """The models."""
        return Pipeline(self.models, self.cache)

    @cached_property
    def readback(self) -> Readback:
        """Renders portraits and detects landmarks in them.

        :raises ValueError: there is no landmarker
        """
        if self.landmarker is None:
            raise ValueError("no landmarker")
        return Readback(self.landmarker, self.cache)

    @cached_property
    def natural(self) -> list[SpeechClip]:
        """Natural speech that nothing was trained on: clips with video first, then audio alone."""
        found = [
            clip.first(NATURAL_SECONDS)
            for name in FILMED_NATURAL
            for clip in speech_clips.load(name, self.tracking, self.names)
        ]
        if self.speech is not None:
            found += speech_clips.load_audio(self.speech, NATURAL_SECONDS)
        if self.quick and len(found) > QUICK_VOICES:
            found = [found[i * len(found) // QUICK_VOICES] for i in range(QUICK_VOICES)]
        return found

    def clips(self, name: str) -> list[Recording]:
        """The recordings of a set."""
        if name not in self._sets:
            self._sets[name] = recordings.load(
                name, self.tracking, self.names, self.cache, self.quick
            )
        return self._sets[name]

    def rows(self, name: str) -> list[Rows]:
        """The encoder's rows of a set."""
        return self.pipeline.rows([clip.audio for clip in self.clips(name)])

    def motions(
        self, name: str, controls: Controls | None = None, seed: int = 0
    ) -> list[Float32Array]:
        """Motion generated from a set's audio, on the audio clock."""
        rows = self.rows(name)
        return self.pipeline.motions(rows, controls, [seed] * len(rows))

    def by_rules(self, rows: Sequence[Rows]) -> list[Float32Array]:
        """The rule teacher's mouth for the phones that the encoder recognises: (T, 52) a clip."""
        return [by_rule(recognised(one.features), -(-len(one.features) // 2)) for one in rows]

    def voice(self, name: str, start: float, seconds: float) -> tuple[Float32Array, Phones]:
        """A part of a packed synthetic voice and its exact phones."""
        first, last = int(start * SAMPLE_RATE), int((start + seconds) * SAMPLE_RATE)
        audio, _ = soundfile.read(
            audio_path(self.voices, name), start=first, stop=last, dtype="float32"
        )
        phones = packed(self.voices / "labels.npz", name)
        return audio, phones.between(start, start + len(audio) / SAMPLE_RATE)


def by_rule(phones: Phones, frames: int) -> Float32Array:
    """The rule teacher's mouth for known phones: (frames, 52)."""
    made: Float32Array = animate(phones.phone, phones.end.astype(np.float32), frames)
    return made
