"""Models that measurements of the renderer share, loaded once a process."""

from __future__ import annotations

from functools import cached_property, lru_cache

import cv2

from talkingface.renderer.analysis import FaceAnalyser
from talkingface.renderer.worker.devices import CpuDevice, warm_up
from talkingface_research.renderer.evaluation.face_recognition import FaceRecognition
from talkingface_research.renderer.evaluation.offline_renderer import Inpainter


class Models:
    """Models on one core, each loaded at its first use."""

    @cached_property
    def analyser(self) -> FaceAnalyser:
        """The face analysis."""
        return FaceAnalyser()

    @cached_property
    def inpainter(self) -> Inpainter:
        """The network that finishes frames."""
        return Inpainter()

    @cached_property
    def face_recognition(self) -> FaceRecognition:
        """The network that recognises people."""
        return FaceRecognition()


@lru_cache(maxsize=1)
def models() -> Models:
    """The models of this process."""
    cv2.setNumThreads(1)
    warm_up(CpuDevice())
    return Models()
