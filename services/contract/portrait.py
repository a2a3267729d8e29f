"""A client's portrait: its handle, and what its file may be."""

from __future__ import annotations

import hashlib
import re

HANDLE = re.compile(r"sha256:[0-9a-f]{64}")

MAX_BYTES = 20 * 1024 * 1024  # of the file
MAX_PIXELS = 64_000_000
MIN_FACE = 80  # pixels, larger side of the face in the photo


def handle_of(image: bytes) -> str:
    """The handle of a portrait: the hash of its file's bytes."""
    return f"sha256:{hashlib.sha256(image).hexdigest()}"
