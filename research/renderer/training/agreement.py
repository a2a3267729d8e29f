"""Training targets from photographs, where they agree with the drawing.

The position of tongue and lower teeth cannot be known from the drawing. A network trained to
reproduce the photograph learns the mean of all mouths: a flat pink over dark cavities, grey over
teeth. Therefore the target of a mouth has the photograph's light everywhere, but its pixels only
where they agree with the drawing. An eyelid's colour is known from the skin around it, and closed
eyes in photographs have more make-up and shadow than others: the target of an eye is the photograph
in the drawing's light.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

GAIN = (0.5, 1.5)  # limits of the photograph's light over the drawing's
DARK = (0.1, 0.35)  # brightness of drawn cavities, which are never made lighter, and of drawn teeth
TOLERANCE = 0.15  # relative difference in brightness at which the weight has fallen to a quarter
FLOOR = 0.3  # brightness added to the reference of relative differences
MOUTH_CELL, EYE_CELL = 8, 4  # pixels; the light changes over a few of these
ROUNDS = 4  # of reweighting


def _blur(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)


def _spread(x: Tensor, cell: int) -> Tensor:
    """Smooth over some six cells of `cell` pixels."""
    small = _blur(_blur(F.avg_pool2d(x, cell), 5), 5)
    return F.interpolate(small, scale_factor=float(cell), mode="bilinear")


def agreed(drawn: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Robust relighting (iteratively reweighted least squares) of the drawing by the target.

    :param drawn: (B, 3, H, W) in [0, 1]
    :param target: the same of the photograph
    :param mask: (B, 1, H, W) where something was drawn
    :return: the target where it agrees or nothing was drawn, elsewhere the drawing in the target's
        light (B, 3, H, W); and the agreement (B, 1, H, W), 1 where nothing was drawn
    """
    luma = target.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    brightness = (drawn * luma).sum(1, keepdim=True)
    lit = ((brightness - DARK[0]) / (DARK[1] - DARK[0])).clamp(0, 1)
    weight = mask
    relit = drawn
    for _ in range(ROUNDS):
        product, square = weight * target * drawn, weight * drawn.square()
        everywhere = [x.mean((2, 3), keepdim=True) + 1e-3 for x in (product, square)]
        near = [_spread(x, MOUTH_CELL) for x in (product, square)]
        gain = (near[0] + everywhere[0]) / (near[1] + everywhere[1])
        gain = gain.clamp(*GAIN)
        gain = gain + (1 - lit) * (gain.clamp(max=1.0) - gain)
        relit = (drawn * gain).clamp(0, 1)
        error = (_blur(target - relit, 3) * luma).sum(1, keepdim=True).abs()
        bright = (relit * luma).sum(1, keepdim=True)
        weight = mask * (1 + (error / (TOLERANCE * (FLOOR + bright))).square()) ** -2
    share = 1 - _blur(mask - weight, 3)
    return relit + share * (target - relit), share


def in_light_of(drawn: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The target in the drawing's light where something was drawn; shapes as in `agreed`."""
    weight = mask + 1e-3
    light, own = (_spread(weight * x, EYE_CELL) for x in (drawn, target))
    ratio = (light + 1e-4) / (own + 1e-4)
    relit = (target * ratio.clamp(0.4, 2.5)).clamp(0, 1)
    return target + _blur(mask, 3) * (relit - target)
