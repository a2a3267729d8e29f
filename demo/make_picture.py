"""Make the picture of the README: the portrait, then frames of its animation.

python demo/make_picture.py build/demo/astronaut.png out/demo.mp4 docs/demo.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

COLUMNS, ROWS = 4, 2
SIZE = 320
FIRST_FRAME = 12


def main(portrait: Path, video: Path, out: Path) -> None:
    """Write the contact sheet."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    chosen = np.linspace(FIRST_FRAME, len(frames) - FIRST_FRAME, COLUMNS * ROWS - 1).astype(int)
    pictures = [Image.open(portrait).convert("RGB"), *(frames[i] for i in chosen)]
    sheet = Image.new("RGB", (COLUMNS * SIZE, ROWS * SIZE))
    for i, picture in enumerate(pictures):
        place = (i % COLUMNS * SIZE, i // COLUMNS * SIZE)
        sheet.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), place)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
