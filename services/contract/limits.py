"""What a client's portrait and pictures may be; apart, so that checking it needs no networks."""

from __future__ import annotations

from talkingface.contract.motion import MOTION_FPS

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 64_000_000
MIN_FACE = 80  # pixels, larger side of the face in the photo

MIN_SIZE, MAX_SIZE, DEFAULT_SIZE = 256, 1024, 512  # pixels, both sides of a crop; even
MAX_PHOTO_SIDE = 1920  # pixels: larger photos are reduced to it where the whole photo is shown
MIN_FRAME_RATE, MAX_FRAME_RATE = MOTION_FPS, 60
