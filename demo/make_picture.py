"""Make the picture of the README: the portrait, then frames of its animation.

One frame from each seventh of the video: that with the most contrast about the mouth, as of teeth.

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
MOUTH = (190, 250, 320, 350)  # left, top, right, bottom in the 512 x 512 frame


def main(portrait: Path, video: Path, out: Path) -> None:
    """Write the contact sheet."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    contrast = np.array([np.asarray(frame.crop(MOUTH).convert("L")).std() for frame in frames])
    parts = np.array_split(np.arange(len(frames)), COLUMNS * ROWS - 1)
    chosen = [part[np.argmax(contrast[part])] for part in parts]
    pictures = [Image.open(portrait).convert("RGB"), *(frames[i] for i in chosen)]
    sheet = Image.new("RGB", (COLUMNS * SIZE, ROWS * SIZE))
    for i, picture in enumerate(pictures):
        place = (i % COLUMNS * SIZE, i // COLUMNS * SIZE)
        sheet.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), place)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
