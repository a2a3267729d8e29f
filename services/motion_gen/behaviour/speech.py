"""Speech events for the planners: speech, phrases, pauses, accents, arousal."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.speech_features import ENERGY, LOG2_F0, VOICE_ACTIVITY
from talkingface.motion_gen.behaviour.state import Serializable
from talkingface.motion_gen.windows import FRAME_SECONDS

# All by eye on recorded and synthetic speech, unless a line says otherwise.
ACTIVE = 0.5  # mean voice activity of a frame from which on it counts as speech
MAYBE_ACTIVE = 0.15  # voice activity of a single row at which speech may be about to start
UTTERANCE_GAP = 8  # frames of silence that end an utterance
PHRASE_GAP = 5  # frames of silence that end a phrase
BASELINE_SECONDS = 8.0  # time constant of the running means of loudness and pitch
LOUDNESS_UNIT = 8.0  # dB above the mean that give a prominence of 0.6
PITCH_UNIT = 1 / 3  # octaves above the mean that give a prominence of 0.6
PROMINENCE_PER_UNIT = 0.6
PROMINENCE_DECAY = math.exp(-FRAME_SECONDS / 0.06)  # per frame; time constant 0.06 s
ACCENT_THRESHOLD = 0.45  # prominence at which an accent begins
ACCENT_REARM = 0.6  # share of the threshold below which the next accent may follow
ACCENT_GAP = 5  # least frames between two accents
MAX_EXCURSION = 1.5  # units at which loudness and pitch are clipped
AROUSAL_SECONDS = 1.5  # time constant
FINAL_PITCHES = 10  # voiced frames whose pitch decides whether a phrase ends on a rise
FINAL_RISE = 0.2  # octaves from their first to their last third
# dB per frame by which a voice fades in a room, and how much faster it must fall to count as cut
# off.
ROOM_FADE, CUT_OFF_MARGIN = 12.0, 20.0
MIN_PITCH = 1.0  # log2 Hz; lower values mean unvoiced


class SpeechFrame(NamedTuple):
    """Speech in one motion frame."""

    active: bool  # speech now
    speaking: bool  # speech now or less than `UTTERANCE_GAP` frames ago
    utterance_start: bool  # first frame of an utterance
    phrase_start: bool  # first frame of a phrase, in an utterance or after a pause
    pause_start: bool  # the silence after a phrase has just reached `PHRASE_GAP`
    utterance_end: bool  # the silence has just reached `UTTERANCE_GAP`
    silence: float  # seconds since the last speech
    prominence: float  # >= 0, about 1 on a stressed syllable
    pitch: float  # above the speaker's mean, in `PITCH_UNIT`, -1.5..1.5; 0 if unvoiced
    accent: bool  # a stressed syllable begins
    maybe_active: bool  # speech now, or perhaps about to start
    phrase_seconds: float  # speech in the current or last phrase
    rising_end: bool  # `pause_start` after a phrase that ended on rising pitch
    arousal: float  # recent loudness and pitch above the mean, -1..1; 0 in silence
    cut_off: bool  # speech ended faster than a voice fades in a room


SILENCE = SpeechFrame(
    active=False,
    speaking=False,
    utterance_start=False,
    phrase_start=False,
    pause_start=False,
    utterance_end=False,
    silence=10.0,
    prominence=0.0,
    pitch=0.0,
    accent=False,
    maybe_active=False,
    phrase_seconds=0.0,
    rising_end=False,
    arousal=0.0,
    cut_off=False,
)


class SpeechTracker(Serializable):
    """Tracks one speaker; loudness and pitch are relative to the speaker's own running means."""

    def __init__(self) -> None:
        self.silent_frames = 10 * UTTERANCE_GAP  # since the last speech
        self.means = np.zeros(2)  # dBFS, log2 Hz
        self.counts = np.zeros(2)  # frames that went into each mean
        self.prominence = 0.0
        self.frames_since_accent = 10 * ACCENT_GAP
        self.armed = True  # prominence was low since the last accent
        self.phrase_frames = 0  # frames of speech in the phrase
        self.pitches = np.zeros(FINAL_PITCHES)  # log2 Hz of the phrase's last voiced frames, or 0
        self.arousal = 0.0
        self.level = -100.0  # dBFS, falling no faster than a room lets it fade
        self.cut_off = False

    def step(self, rows: Float32Array) -> SpeechFrame:
        """Advance by one frame.

        :param rows: (n, 4) the frame's rows of the speech encoder: voice activity, energy dBFS,
            log2 F0 (0 = unvoiced), voicing
        """
        active = bool(rows[:, VOICE_ACTIVITY].mean() > ACTIVE)
        level = float(rows[:, ENERGY].mean())
        self.cut_off = not active and (
            self.cut_off or level < self.level - ROOM_FADE - CUT_OFF_MARGIN
        )
        self.level = max(level, self.level - ROOM_FADE)
        gap, self.silent_frames = self.silent_frames, 0 if active else self.silent_frames + 1
        if active and gap >= PHRASE_GAP:
            self.phrase_frames = 0
            self.pitches[:] = 0.0
        self.phrase_frames += active
        loudness, pitch = self._excursions(rows, active, level)
        excess = min(max(loudness + pitch, -1.0), 1.0) if active else 0.0
        self.arousal += (excess - self.arousal) * FRAME_SECONDS / AROUSAL_SECONDS
        accent = self._is_accent(loudness, pitch)
        pause_start = self.silent_frames == PHRASE_GAP
        return SpeechFrame(
            active=active,
            speaking=self.silent_frames < UTTERANCE_GAP,
            utterance_start=active and gap >= UTTERANCE_GAP,
            phrase_start=active and gap >= PHRASE_GAP,
            pause_start=pause_start,
            utterance_end=self.silent_frames == UTTERANCE_GAP,
            silence=self.silent_frames * FRAME_SECONDS,
            prominence=self.prominence,
            pitch=pitch,
            accent=accent,
            maybe_active=active or bool(rows[:, VOICE_ACTIVITY].max() > MAYBE_ACTIVE),
            phrase_seconds=self.phrase_frames * FRAME_SECONDS,
            rising_end=pause_start and self._rises(),
            arousal=self.arousal,
            cut_off=self.cut_off,
        )

    def _excursions(self, rows: Float32Array, active: bool, level: float) -> tuple[float, float]:
        """Return loudness and pitch above their means, in their units, clipped."""
        loudness = self._above_mean(0, level, active) / LOUDNESS_UNIT
        pitches = rows[rows[:, LOG2_F0] > MIN_PITCH, LOG2_F0]
        voiced = active and len(pitches) > 0
        log2_hz = float(pitches.mean()) if voiced else 0.0
        if voiced:
            self.pitches = np.append(self.pitches[1:], log2_hz)
        pitch = self._above_mean(1, log2_hz, voiced) / PITCH_UNIT
        return (
            min(max(loudness, -MAX_EXCURSION), MAX_EXCURSION),
            min(max(pitch, -MAX_EXCURSION), MAX_EXCURSION),
        )

    def _is_accent(self, loudness: float, pitch: float) -> bool:
        """Update the prominence and return whether an accent begins."""
        now = max(PROMINENCE_PER_UNIT * (loudness + pitch), 0.0)
        self.prominence = now + (self.prominence - now) * PROMINENCE_DECAY
        self.frames_since_accent += 1
        accent = (
            self.armed
            and self.prominence > ACCENT_THRESHOLD
            and self.frames_since_accent >= ACCENT_GAP
        )
        if accent:
            self.frames_since_accent = 0
        self.armed = not accent and (
            self.armed or self.prominence < ACCENT_REARM * ACCENT_THRESHOLD
        )
        return accent

    def _rises(self) -> bool:
        """Return whether the phrase ended on rising pitch."""
        third = FINAL_PITCHES // 3
        first, last = self.pitches[:third], self.pitches[-third:]
        return bool(first.min() > 0 and last.mean() - first.mean() > FINAL_RISE)

    def _above_mean(self, which: int, value: float, counts: bool) -> float:
        """Update a running mean and return how far a value lies above it.

        :param counts: whether the value counts; if not, the result is 0
        """
        if not counts:
            return 0.0
        self.counts[which] += 1
        weight = max(1 / self.counts[which], FRAME_SECONDS / BASELINE_SECONDS)
        self.means[which] += weight * (value - self.means[which])
        return value - float(self.means[which])
