"""What the body can know of the voice as it is heard: speech, pauses, accents, arousal."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.motion import Array
from talkingface.contract.speech_features import ENERGY, LOG2_F0, VOICE_ACTIVITY
from talkingface.motion_gen.behaviour.memory import FRAME, Stateful

HEARD = 0.5  # voice activity
STIRRING = 0.15  # voice activity of a single row at which the voice may be coming back
HOLD = 8  # frames of silence that still belong to speech
PAUSE = 5  # frames of silence that part two phrases
MEMORY = 8.0  # seconds over which the speaker's usual loudness and pitch are known
LOUD = 8.0  # dB above the usual that count as one
HIGH = 1 / 3  # octaves above the usual that count as one
SMOOTHING = math.exp(-FRAME / 0.06)
ACCENTED = 0.45  # prominence that makes an accent
ACCENT_REST = 5  # frames between two accents at least
AROUSAL_SECONDS = 1.5  # over which loudness and pitch above the usual make a speaker aroused
TUNE = 10  # voiced frames whose pitch tells how a phrase ends
FADES, FALLS = 12.0, 20.0  # dB a frame that a voice fades in a room; more at once breaks it off
QUESTION = 0.2  # octaves by which the last third of them lies above the first


class Voice(NamedTuple):
    """The voice in one frame."""

    heard: bool  # now
    speaking: bool  # now or a moment ago
    onset: bool  # first frame of an utterance
    phrase: bool  # first frame of a phrase: of an utterance, or after a pause within it
    pause: bool  # a pause has just become noticeable
    ended: bool  # the utterance has just ended
    silence: float  # seconds since the voice was last heard
    prominence: float  # 0 or more, about 1 on a stressed syllable
    pitch: float  # about the usual one, in units of `HIGH`, -1.5..1.5; 0 if unvoiced
    accent: bool  # a stressed syllable begins
    stirring: bool  # the voice is heard, or may be in a moment
    spoken: float  # seconds of voice in the phrase that goes on or is just over
    question: bool  # a pause has just become noticeable, and the pitch had risen before it
    arousal: float  # loudness and pitch about the usual of late, -1..1; 0 in silence
    broken: bool  # the voice fell silent faster than any room lets it: it was cut off


SILENCE = Voice(
    False, False, False, False, False, False, 10.0, 0.0, 0.0, False, False, 0.0, False, 0.0, False
)


class VoiceTracker(Stateful):
    """Follows one speaker; loudness and pitch are measured against his own running means."""

    def __init__(self) -> None:
        self.quiet = 10 * HOLD  # frames since the voice was last heard
        self.usual = np.zeros(2)  # dBFS, log2 Hz
        self.known = np.zeros(2)  # frames that went into them
        self.prominence = 0.0
        self.since_accent = 10 * ACCENT_REST
        self.armed = True  # prominence was low since the last accent
        self.spoken = 0  # frames
        self.tune = np.zeros(TUNE)  # log2 Hz of the last voiced frames of the phrase, 0 = none
        self.arousal = 0.0
        self.level = -100.0  # dBFS, as a room would let it fade
        self.broken = False

    def step(self, rows: Array) -> Voice:
        """The next frame.

        :param rows: (n, 4) rows of the speech encoder for this frame: voice activity, energy
            dBFS, log2 F0 (0 = unvoiced), voicing
        """
        heard = bool(rows[:, VOICE_ACTIVITY].mean() > HEARD)
        level = float(rows[:, ENERGY].mean())
        self.broken = not heard and (self.broken or level < self.level - FADES - FALLS)
        self.level = max(level, self.level - FADES)
        before, self.quiet = self.quiet, 0 if heard else self.quiet + 1
        if heard and before >= PAUSE:
            self.spoken = 0
            self.tune[:] = 0.0
        self.spoken += heard
        loud = self._about(0, level, heard) / LOUD
        pitches = rows[rows[:, LOG2_F0] > 1, LOG2_F0]
        voiced = heard and len(pitches) > 0
        tone = float(pitches.mean()) if voiced else 0.0
        if voiced:
            self.tune = np.append(self.tune[1:], tone)
        high = self._about(1, tone, voiced) / HIGH
        loud, high = min(max(loud, -1.5), 1.5), min(max(high, -1.5), 1.5)
        excess = min(max(loud + high, -1.0), 1.0) if heard else 0.0
        self.arousal += (excess - self.arousal) * FRAME / AROUSAL_SECONDS
        now = max(0.6 * (loud + high), 0.0)
        self.prominence = now + (self.prominence - now) * SMOOTHING
        self.since_accent += 1
        accent = self.armed and self.prominence > ACCENTED and self.since_accent >= ACCENT_REST
        if accent:
            self.since_accent = 0
        self.armed = not accent and (self.armed or self.prominence < 0.6 * ACCENTED)
        return Voice(
            heard=heard,
            speaking=self.quiet < HOLD,
            onset=heard and before >= HOLD,
            phrase=heard and before >= PAUSE,
            pause=self.quiet == PAUSE,
            ended=self.quiet == HOLD,
            silence=self.quiet * FRAME,
            prominence=self.prominence,
            pitch=high,
            accent=accent,
            stirring=heard or bool(rows[:, VOICE_ACTIVITY].max() > STIRRING),
            spoken=self.spoken * FRAME,
            question=self.quiet == PAUSE and self._rises(),
            arousal=self.arousal,
            broken=self.broken,
        )

    def _rises(self) -> bool:
        """Whether the phrase that is over ended on a rising pitch."""
        third = TUNE // 3
        first, last = self.tune[:third], self.tune[-third:]
        return bool(first.min() > 0 and last.mean() - first.mean() > QUESTION)

    def _about(self, which: int, value: float, counts: bool) -> float:
        """How far a value lies above its running mean; 0 where it does not count."""
        if not counts:
            return 0.0
        self.known[which] += 1
        share = max(1 / self.known[which], FRAME / MEMORY)
        self.usual[which] += share * (value - self.usual[which])
        return value - float(self.usual[which])
