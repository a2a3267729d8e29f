"""Where a frame's pixels come from: folds, stretching, seams.

`WarpedFrame.flow` is, for each pixel of a frame, its source position in the photo. A frame consists
of layers and a head occludes parts of itself, so the flow may jump from a pixel to the next; such
pixels are neither folded nor stretched. Where the flow does not jump, the frame is one surface, and

- the surface is *folded* where the flow turns over (its Jacobian's determinant is negative): the
  photo is shown mirrored, be it by an error of the mesh or by skin mirrored on purpose;
- it is *stretched* where a step in the frame is less than a third of one in the photo, in the
  direction of the largest stretch.

Where the flow does jump, there is a *seam* if the frame has a step of luma that the photo has on
neither side of it.

All three are shares of the pixels that come from the photo's head, without drawn parts (open mouth,
moved eyes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
cv: Any = cv2  # OpenCV's stubs have no element types

JUMP = 3.0  # photo pixels between neighbours in the frame, beyond which they are not one surface
STRETCH = 3.0  # factor
SEAM = 24.0  # grey values, by eye
CARRIED = 128  # of 255, opacity from which a pixel comes from the photo


@dataclass(frozen=True)
class Surface:
    """Masks (H, W) of the head's pixels in one frame, and of their faults."""

    head: Mask
    folded: Mask
    stretched: Mask
    seams: Mask

    def share(self, part: Mask) -> float:
        """Per cent of the head's pixels that are in the mask."""
        return 100 * float((part & self.head).sum()) / max(int(self.head.sum()), 1)


def sample(image: NDArray[Any], flow: Array, nearest: bool = False) -> NDArray[Any]:
    """Values of an image of the photo's size at the positions of a flow (H, W, 2)."""
    kind = cv.INTER_NEAREST if nearest else cv.INTER_LINEAR
    return np.asarray(cv.remap(image, flow, None, kind, borderMode=cv.BORDER_REPLICATE))


def jumps(flow: Array) -> Mask:
    """Where a flow (H, W, 2) jumps to a neighbour, (H, W)."""
    out = np.zeros(flow.shape[:2], bool)
    out[:, :-1] = np.linalg.norm(flow[:, 1:] - flow[:, :-1], axis=2) > JUMP
    out[:-1] |= np.linalg.norm(flow[1:] - flow[:-1], axis=2) > JUMP
    return out


def surface(flow: Array, carried: Image, frame: Image, photo: Image, head: Mask) -> Surface:
    """Find folds, stretching and seams of a frame.

    :param flow: (H, W, 2) pixels of the photo
    :param carried: (H, W) 0..255, opacity of pixels that come from the photo
    :param frame: (H, W, 3) finished
    :param photo: (H, W, 3)
    :param head: (H, W) the photo's pixels that are head
    """
    known = (carried >= CARRIED) & (sample(head.astype(np.float32), flow) > 0.5)
    across = flow[:, 1:] - flow[:, :-1]
    down = flow[1:] - flow[:-1]
    jumps_across = np.linalg.norm(across, axis=2) > JUMP
    jumps_down = np.linalg.norm(down, axis=2) > JUMP
    a, b = across[:-1], down[:, :-1]
    one = ~jumps_across[:-1] & ~jumps_down[:, :-1]
    determinant = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    # The smaller singular value of the 2 x 2 Jacobian.
    size = (a**2).sum(2) + (b**2).sum(2)
    root = np.sqrt(np.maximum(size**2 - 4 * determinant**2, 0))
    least = np.sqrt(np.maximum(size - root, 0) / 2)
    folded, stretched = np.zeros_like(known), np.zeros_like(known)
    folded[:-1, :-1] = one & (determinant < 0)
    stretched[:-1, :-1] = one & (least < 1 / STRETCH)
    seams = np.zeros_like(known)
    steps = photo_steps(photo)
    allowed = sample(steps, flow)
    light = luma(frame)
    for axis, jumps in ((1, jumps_across), (0, jumps_down)):
        first = tuple(slice(None, -1) if k == axis else slice(None) for k in range(2))
        second = tuple(slice(1, None) if k == axis else slice(None) for k in range(2))
        step = np.abs(light[second] - light[first])
        beyond = step - np.maximum(allowed[first], allowed[second])
        seams[first] |= jumps & (beyond > SEAM)
    return Surface(known, folded & known, stretched & known, seams & known)


def luma(image: Image) -> Array:
    """Grey values (H, W) of RGB."""
    return np.asarray(cv.cvtColor(image, cv.COLOR_RGB2GRAY), np.float32)


def photo_steps(photo: Image) -> Array:
    """The largest step of luma between neighbours about each pixel of a photo, (H, W)."""
    grey = luma(photo)
    steps = np.zeros_like(grey)
    steps[:, :-1] = np.abs(np.diff(grey, axis=1))
    steps[:-1] = np.maximum(steps[:-1], np.abs(np.diff(grey, axis=0)))
    return np.asarray(cv.dilate(steps, np.ones((5, 5), np.uint8)))
