"""Handle of a portrait, and limits of its image file."""

from __future__ import annotations

import hashlib
import re

HANDLE = re.compile(r"sha256:[0-9a-f]{64}")

MAX_BYTES = 20 * 1024 * 1024  # size of the file
MAX_PIXELS = 64_000_000  # width times height
MIN_FACE = 80  # pixels, larger side of the face in the photo; by eye


def handle_of(image: bytes) -> str:
    """Return the handle of a portrait: the SHA-256 of its file's bytes."""
    return f"sha256:{hashlib.sha256(image).hexdigest()}"
