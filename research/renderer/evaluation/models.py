"""What every measurement of the renderer needs, loaded once a process."""

from __future__ import annotations

from functools import cached_property, lru_cache

import cv2

from talkingface.renderer.analysis import FaceAnalyser
from talkingface.renderer.worker.frame_synthesis import warm_up
from talkingface_research.renderer.evaluation.face_recognition import Recogniser
from talkingface_research.renderer.evaluation.offline_renderer import Inpainter


class Studio:
    """Networks on one core."""

    @cached_property
    def analyser(self) -> FaceAnalyser:
        """The face analysis."""
        return FaceAnalyser()

    @cached_property
    def inpainter(self) -> Inpainter:
        """The network that finishes frames."""
        return Inpainter()

    @cached_property
    def recogniser(self) -> Recogniser:
        """The network that recognises people."""
        return Recogniser()


@lru_cache(maxsize=1)
def studio() -> Studio:
    """This process's own."""
    cv2.setNumThreads(1)
    warm_up()
    return Studio()
