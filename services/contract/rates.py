"""The rates at which sound, features and motion travel between the stages."""

from __future__ import annotations

SAMPLE_RATE = 16_000  # samples a second of the voice as the stages hear it, mono
ROW_RATE = 50  # rows of speech features a second
MOTION_FPS = 25  # motion frames a second
