"""Another build of the package: the same sources with some constants changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import talkingface


def other_build(folder: Path, changes: Mapping[str, tuple[str, str]]) -> Path:
    """Copy the package and change it; the result is a folder for PYTHONPATH.

    :param changes: texts and their replacements, by file; each occurs once.
    """
    copy = folder / "talkingface"
    # With compiled kernels, of which only the changed ones are compiled again.
    ignored = shutil.ignore_patterns("README.md")
    shutil.copytree(Path(talkingface.__file__).parent, copy, ignore=ignored)
    for name, (before, after) in changes.items():
        text = (copy / name).read_text()
        assert text.count(before) == 1, name
        (copy / name).write_text(text.replace(before, after))
    return folder
