"""Do windows join without a seam?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from talkingface.motion_gen.contract import HOP


def ratio(tracks: Sequence[ArrayLike], order: int, hop: int = HOP) -> float:
    """Differences (RMS) across the joints of windows over those within windows; 1 = no seam.

    :param tracks: (T,) or (T, n) each, beginning with a window
    :param order: 1 for steps; 3 for what is left when place, speed and acceleration go on. An odd
        order lies in the middle between two frames, so that it is either at a joint or not.
    """
    at_joint, within = [], []
    for track in tracks:
        change = np.diff(np.asarray(track, float), order, axis=0) ** 2
        joint = (np.arange(len(change)) + (order + 1) // 2) % hop == 0
        at_joint.append(change[joint])
        within.append(change[~joint])
    return float(np.sqrt(np.concatenate(at_joint).mean() / np.concatenate(within).mean()))
