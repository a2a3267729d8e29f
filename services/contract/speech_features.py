"""Output of the speech encoder: sizes, columns, look-ahead."""

from __future__ import annotations

from talkingface.contract.rates import ROW_RATE, SAMPLE_RATE

MODEL_NAME = "speech_encoder"

ROW_SAMPLES = SAMPLE_RATE // ROW_RATE
# The encoder runs once for each chunk of audio.
CHUNK_ROWS = 2
CHUNK_SAMPLES = CHUNK_ROWS * ROW_SAMPLES

# Row i stands for time i / ROW_RATE and depends on samples below ROW_SAMPLES * i +
# LOOK_AHEAD_SAMPLES only: 60 ms of network and the right half of a 40 ms window.
LOOK_AHEAD_SAMPLES = 1280
LOOK_AHEAD_SECONDS = LOOK_AHEAD_SAMPLES / SAMPLE_RATE
# The chunk whose last sample is 640 * (k + 1) - 1 gives the rows 2k - 3 and 2k - 2.
DELAY_ROWS = LOOK_AHEAD_SAMPLES // ROW_SAMPLES - 1

FEATURE_DIM = 128
SPEECH_DIM = 4
# Length of a stream's state between chunks, a flat float32 vector; zero at its start.
STATE_SIZE = 16_660
VOICE_ACTIVITY, ENERGY, LOG2_F0, VOICING = range(SPEECH_DIM)  # columns of a speech row

# ARPAbet without stress marks (39 phones) after silence: the order of the phone posteriors.
PHONES: tuple[str, ...] = (
    "sil",
    "aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw",
    "b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh",
    "t", "th", "v", "w", "y", "z", "zh",
)  # fmt: skip
PHONE_INDEX = {phone: i for i, phone in enumerate(PHONES)}

# Articulation of lips and tongue, by rule from the phones, each in [0, 1].
ARTICULATION: tuple[str, ...] = (
    "lip_closure",
    "lip_to_teeth",
    "jaw_opening",
    "lip_opening",
    "lip_rounding",
    "lip_spread",
    "tongue_tip_up",
    "tongue_back_up",
)

# Columns of `features`.
PHONE_COLUMNS = slice(0, len(PHONES))
ARTICULATION_COLUMNS = slice(len(PHONES), len(PHONES) + len(ARTICULATION))
EMBEDDING_COLUMNS = slice(len(PHONES) + len(ARTICULATION), FEATURE_DIM)
EMBEDDING_DIM = FEATURE_DIM - EMBEDDING_COLUMNS.start
