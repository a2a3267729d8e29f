"""What a client's portrait may be; apart, so that checking it needs no networks."""

from __future__ import annotations

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 64_000_000
MIN_FACE = 64  # pixels, larger side of the face in the photo
