"""Make the contact sheet of the README: the portrait, then frames of its animation.

The video is split into seven equal parts. Each contributes the frame with the most contrast around
the mouth, where teeth are likely to be visible.

python demo/make_contact_sheet.py build/demo/astronaut.png out/demo.mp4 docs/demo.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

COLUMNS, ROWS = 4, 2
SIZE = 320  # pixels, side of one image on the sheet
MOUTH = (190, 250, 320, 350)  # left, top, right, bottom in the 512 x 512 frame, by eye


def main(portrait: Path, video: Path, out: Path) -> None:
    """Write the contact sheet."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    contrast = np.array([np.asarray(frame.crop(MOUTH).convert("L")).std() for frame in frames])
    parts = np.array_split(np.arange(len(frames)), COLUMNS * ROWS - 1)
    chosen = [part[np.argmax(contrast[part])] for part in parts]
    images = [Image.open(portrait).convert("RGB"), *(frames[i] for i in chosen)]
    sheet = Image.new("RGB", (COLUMNS * SIZE, ROWS * SIZE))
    for i, image in enumerate(images):
        corner = (i % COLUMNS * SIZE, i // COLUMNS * SIZE)
        sheet.paste(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), corner)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
