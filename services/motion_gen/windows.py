"""What the motion generator promises: rates, sizes, windows. Needs numpy alone."""

from __future__ import annotations

MODEL_NAME = "motion_generator"

ROWS_PER_FRAME = 2  # features come at 50 Hz, motion goes at 25

# A window: frames already made, then frames to make. A hop is one block of the encoder. The network
# has learnt to make SPAN frames at a time, each with an eye on the other; the first HOP are used.
PAST = 16
HOP = 1
SPAN = 2
WINDOW = PAST + HOP
# Frame f hears the rows 2f - HISTORY_ROWS .. 2f + 2: as far ahead as the encoder's blocks give
# anyway, and about a syllable back.
EXTRA_ROWS = 1
HISTORY_ROWS = 10
HEARD_ROWS = HISTORY_ROWS + ROWS_PER_FRAME + EXTRA_ROWS
WINDOW_ROWS = HISTORY_ROWS + ROWS_PER_FRAME * WINDOW + EXTRA_ROWS

BEHAVIOUR_DIM = 3  # planned lid closure, gaze pitch, gaze yaw
EMOTION_DIM = 7
GUIDED = ("audio", "behaviour", "emotion")
