"""OpenCV, untyped: its stubs return arrays of any element type, which fit no typed variable, and
reject calls that work (`remap` with a single map, scalar colours)."""

from __future__ import annotations

from typing import Any

import cv2

cv: Any = cv2
