"""What a bench shows and says: a portrait and a voice, by default the demo's."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import talkingface
from talkingface.cli.mesh import MeshError
from talkingface.orchestrator.media.decoding import AudioIntake
from talkingface.renderer import fetch_assets
from talkingface.serving.config import cache_folder
from talkingface.v1 import media_pb2 as media

_SPEECH = Path(talkingface.__file__).parents[1] / "demo" / "speech.flac"  # in a checkout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """PORTRAIT and AUDIO, both optional."""
    parser.add_argument(
        "portrait", type=Path, nargs="?", metavar="PORTRAIT", help="default: the demo's, fetched"
    )
    parser.add_argument(
        "audio", type=Path, nargs="?", default=_SPEECH, metavar="AUDIO", help="default: the demo's"
    )


def read_portrait(path: Path | None) -> bytes:
    """The file's bytes.

    :raises MeshError: the demo's cannot be fetched.
    """
    if path is None:
        try:
            (path,) = fetch_assets.fetch("portrait", cache_folder().with_name("demo"))
        except fetch_assets.AssetError as error:
            raise MeshError(str(error)) from None
    return path.read_bytes()


def decode(audio: bytes) -> NDArray[np.float32]:
    """The samples of an audio file as the stages hear them, mono at 16 kHz."""
    intake = AudioIntake(media.AudioFormat(encoding=media.AUDIO_ENCODING_FILE))
    sounds = [*intake.push(audio), *intake.end()]
    return np.concatenate([sound.mono_16k for sound in sounds])
