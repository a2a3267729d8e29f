"""The rates of audio, speech features and motion between the stages."""

from __future__ import annotations

SAMPLE_RATE = 16_000  # samples a second of the speech encoder's input, mono
ROW_RATE = 50  # rows of speech features a second
MOTION_FPS = 25  # motion frames a second
