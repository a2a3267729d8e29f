"""How light teeth are, by the skin around them: the constants of `white_point` in `appearance.py`.

python -m talkingface_research.renderer.training.fit_teeth --photos FOLDER

Takes the photographs whose mouth is open and shows something as light as skin, and prints how well
the brightness of skin and of the eyes' whites predict that of the teeth, and the teeth's colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from talkingface.renderer.analysis import FaceAnalyser
from talkingface.renderer.geometry.appearance import photographed_teeth, skin_colour
from talkingface.renderer.geometry.eyes import LUMA
from talkingface_research.renderer.evaluation.open_mouth import gap
from talkingface_research.renderer.training.build_pairs import framed_photos, prepare

Array = NDArray[np.floating[Any]]

OPEN = 0.035  # gap between the lips over the face's height, from which teeth may show
OVER_SKIN, BRIGHT = 0.85, 150.0  # luma over the skin's, or luma, from which it is teeth


class Sample(NamedTuple):
    """Colours of one photograph, RGB 0..255, (3,) each."""

    teeth: Array
    eyes: Array
    skin: Array


def samples(folder: Path) -> list[Sample]:
    """The photographs of a folder that show teeth."""
    found = []
    for photo in framed_photos(folder, FaceAnalyser()):
        if gap(photo.landmarks) < OPEN:
            continue
        teeth = photographed_teeth(photo.frame, photo.landmarks)
        skin = skin_colour(photo.frame, photo.landmarks)
        if teeth is None or float(teeth @ LUMA) < min(OVER_SKIN * float(skin @ LUMA), BRIGHT):
            continue
        eyes = prepare(photo.frame, photo.landmarks).eyes
        found.append(Sample(teeth, np.mean([eye.white for eye in eyes], 0), skin))
    return found


def power_law(luma: Array, wanted: Array) -> tuple[float, float, float, float]:
    """Fit wanted = factor * luma ** power; also the error's deviation, and r, of logarithms."""
    power, offset = np.polyfit(np.log(luma), np.log(wanted), 1)
    left = np.log(wanted) - power * np.log(luma) - offset
    r = np.corrcoef(np.log(luma), np.log(wanted))[0, 1]
    return float(np.exp(offset)), float(power), float(left.std()), float(r)


def main() -> None:
    parser = argparse.ArgumentParser(description="brightness and colour of teeth by the skin's")
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits (*.jpg)")
    found = samples(parser.parse_args().photos)
    teeth, eyes, skin = (np.array(colours) for colours in zip(*found, strict=True))
    wanted = teeth @ LUMA
    print(f"{len(found)} photographs that show teeth")
    for name, colours in (("skin", skin), ("eyes", eyes)):
        factor, power, error, r = power_law(colours @ LUMA, wanted)
        print(
            f"luma of teeth = {factor:.1f} * {name} ** {power:.2f}, within {error:.2f}, r {r:.2f}"
        )
    tints = [colours / (colours @ LUMA)[:, None] for colours in (eyes, skin, teeth)]
    for channel, name in enumerate(("red", "green", "blue")):
        parts = [tint[:, channel] for tint in tints]
        known = np.stack([*parts[:2], np.ones(len(found))], 1)
        fitted = np.linalg.lstsq(known, parts[2], rcond=None)[0]
        means = ", ".join(f"{part.mean():.3f}" for part in parts)
        print(f"{name} over luma: eyes' * {fitted[0]:.2f} + skin's * {fitted[1]:.2f} + "
              f"{fitted[2]:.2f}; means {means}")  # fmt: skip


if __name__ == "__main__":
    main()
