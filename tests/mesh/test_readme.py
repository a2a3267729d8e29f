"""The README's examples, as they stand there, against the whole mesh."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.services import ServiceProcess

README = (ROOT / "README.md").read_text()
BUF = Path(sys.executable).with_name("buf")
# grpcurl is in no Python package, buf is: the same arguments for the other program.
GRPCURL = f"""#!/bin/sh
data=
while :; do
  case "$1" in
    -plaintext) shift ;;
    -max-msg-sz) shift 2 ;;
    -d) data="--data @-"; shift 2 ;;
    *) break ;;
  esac
done
call="{BUF} curl --protocol grpc --http2-prior-knowledge"
[ "$2" = list ] && exec $call --list-services "http://$1"
exec $call $data "http://$1/$2"
"""


def example(language: str, containing: str) -> str:
    """The README's code block in a language that contains a word."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (block,) = [text for name, text in blocks if name == language and containing in text]
    return str(block)


@pytest.fixture
def at_home(
    tmp_path: Path, portrait_file: Path, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a photo of 5 MB and a recording, where the examples are run."""
    photo = np.asarray(Image.open(portrait_file).convert("RGB").resize((1800, 1800)), np.int16)
    noise = np.random.default_rng(0).integers(-12, 13, photo.shape)
    noisy = Image.fromarray(np.clip(photo + noise, 0, 255).astype(np.uint8))
    noisy.save(tmp_path / "face.jpg", "PNG")
    assert (tmp_path / "face.jpg").stat().st_size > 5_000_000
    with av.open(str(tmp_path / "voice.mp3"), "w") as out:
        stream = out.add_stream("mp3", rate=16000, layout="mono")
        samples = np.rint(voice[None, :16000] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frames_of(video: Path) -> int:
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_shell_example(mesh: ServiceProcess, at_home: Path) -> None:
    tools = at_home / "bin"
    tools.mkdir()
    (tools / "grpcurl").write_text(GRPCURL)
    (tools / "grpcurl").chmod(0o755)
    script = example("", "grpcurl").replace("localhost:50050", mesh.address)
    environ = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-euo", "pipefail", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "talkingface.v1.TalkingFaceService" in done.stdout
    answers, decoder, text = [], json.JSONDecoder(), (at_home / "answers.json").read_text().strip()
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:].lstrip()
    assert "started" in answers[0]
    assert "summary" in answers[-1]
    video = b"".join(base64.b64decode(a["media"]["data"]) for a in answers if "media" in a)
    (at_home / "talking.mp4").write_bytes(video)
    assert 25 <= frames_of(at_home / "talking.mp4") <= 27  # MP3 pads


def test_the_python_example(mesh: ServiceProcess, at_home: Path, voice: np.ndarray) -> None:
    async def my_voice() -> AsyncIterator[bytes]:
        yield np.rint(np.repeat(voice[:12000], 2) * 32767).astype("<i2").tobytes()

    source = example("python", "microphone").replace("localhost:50050", mesh.address)
    exec(compile(source, "README.md", "exec"), {"my_voice": my_voice})
    assert frames_of(at_home / "talking.mp4") == 25
