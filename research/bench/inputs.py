"""Portrait and speech of a bench, by default the demo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkingface.cli.mesh import MeshError
from talkingface.orchestrator.media.decoding import AudioIntake
from talkingface.renderer import fetch_assets
from talkingface.serving.config import cache_folder
from talkingface.v1 import media_pb2 as media


def read_portrait(path: Path | None) -> bytes:
    """Read the file, or the demo's portrait.

    :raises MeshError: the demo's cannot be fetched
    """
    if path is None:
        try:
            (path,) = fetch_assets.fetch("portrait", cache_folder().with_name("demo"))
        except fetch_assets.AssetError as error:
            raise MeshError(str(error)) from None
    return path.read_bytes()


def decode(audio: bytes) -> NDArray[np.float32]:
    """Decode an audio file to what the stages receive: mono samples at 16 kHz."""
    intake = AudioIntake(media.AudioFormat(encoding=media.AUDIO_ENCODING_FILE))
    sounds = [*intake.push(audio), *intake.end()]
    return np.concatenate([sound.mono_16k for sound in sounds])
