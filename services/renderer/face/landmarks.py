"""Indices of MediaPipe's 478 landmarks by region of the face."""

from __future__ import annotations

UPPER_LIP, LOWER_LIP = 13, 14  # the middle of their inner edges
CHIN = 152
# Facing pairs of upper and lower inner lip, and the two mouth corners.
LIP_PAIRS = (
    (13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318), (191, 95),
    (415, 324),
)  # fmt: skip
LIP_CORNERS = (78, 308)  # subject's right, left
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
# Upper and lower lid points that face each other: subject's right eye, then left.
LID_PAIRS = (
    ((160, 144), (159, 145), (158, 153)),
    ((387, 373), (386, 374), (385, 380)),
)
EYE_CORNERS = ((33, 133), (362, 263))
IRISES = (468, 473)  # centres: subject's right, left
# The face's outline; it slides over the cheek when the head turns.
OUTLINE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
