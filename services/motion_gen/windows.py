"""Sizes of the windows in which the motion generator works, and the names of its conditions."""

from __future__ import annotations

from talkingface.contract.rates import MOTION_FPS, ROW_RATE

MODEL_NAME = "motion_generator"

FRAME_SECONDS = 1.0 / MOTION_FPS
ROWS_PER_FRAME = ROW_RATE // MOTION_FPS  # rows of speech features for each motion frame

# A window holds PAST frames that are known and HOP new ones. A hop is as long as one chunk of the
# encoder. The network was trained to generate SPAN frames together; only the first HOP are used.
PAST = 16  # frames
HOP = 1  # frames
SPAN = 2  # frames
WINDOW = PAST + HOP  # frames
# Frame f depends on the rows 2f - HISTORY_ROWS .. 2f + 2. Looking ahead by EXTRA_ROWS adds no
# latency, because the encoder's chunks deliver that row anyway; the history is about a syllable.
EXTRA_ROWS = 1
HISTORY_ROWS = 10
RECEPTIVE_ROWS = HISTORY_ROWS + ROWS_PER_FRAME + EXTRA_ROWS
WINDOW_ROWS = HISTORY_ROWS + ROWS_PER_FRAME * WINDOW + EXTRA_ROWS

BEHAVIOUR_DIM = 3  # planned lid closure, gaze pitch, gaze yaw
EMOTION_DIM = 7  # weights in the order of `contract.controls.EMOTIONS`
GUIDED = ("audio", "behaviour", "emotion")  # conditions with classifier-free guidance
