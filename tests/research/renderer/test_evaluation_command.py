"""`talkingface evaluate picture` on one portrait and a clip made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from talkingface_research.renderer.evaluation.run import SMALL, held_out

pytestmark = pytest.mark.timeout(300)

COMMAND: list[Any] = [Path(sys.executable).with_name("talkingface"), "evaluate", "picture"]
BLOCKED = (
    "import sys; sys.modules['dlib'] = None; from talkingface.cli import main; "
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def clip(portrait_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames in which the portrait sways."""
    photo = cv2.imread(str(portrait_file))
    path = tmp_path_factory.mktemp("clips") / "sway.mp4"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = photo.shape[1], photo.shape[0], "yuv420p"
        for i in range(8):
            matrix = np.array([[1, 0, 2 * np.sin(i)], [0, 1, 0]], np.float32)
            size = photo.shape[1::-1]
            moved: Any = cv2.warpAffine(photo, matrix, size, borderMode=cv2.BORDER_REFLECT)
            for packet in stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return path


@pytest.fixture(scope="module")
def report(portrait_file: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("dlib", reason="the extra 'research' is not installed")
    folder = tmp_path_factory.mktemp("report")
    done = subprocess.run(
        [*COMMAND, "--portraits", portrait_file, "--videos", clip, "--report", folder],
        capture_output=True,
        text=True,
        timeout=280,  # twenty seconds of one core, which may be shared
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (folder / "table.md").read_text().strip()
    return folder


def test_every_section_has_figures(report: Path) -> None:
    table = json.loads((report / "table.json").read_text())
    assert table["about"]["portraits"] == table["about"]["clips"] == 1
    assert list(table["sections"]) == [
        "identity", "expression", "warp artifacts", "mouth and eyes", "detail", "reenacted clips",
        "cost",
    ]  # fmt: skip
    for rows in table["sections"].values():
        assert rows
        assert all(row["values"] for row in rows)


def test_the_portrait_has_plausible_figures(report: Path) -> None:
    sections = json.loads((report / "table.json").read_text())["sections"]

    def value(section: str, what: str, column: str = "generated") -> float:
        (row,) = [row for row in sections[section] if row["what"].startswith(what)]
        return float(row["values"][column])

    assert value("identity", "poses nearer than") > 90
    assert value("identity", "distance, median", "static") < value("identity", "distance, median")
    for axis in ("opening", "yaw", "pitch", "roll"):
        assert value("expression", f"{axis}, requested and measured") > 0.9
    # The head's motion explains most of a clip that sways.
    moved = "reenacted clips"
    assert value(moved, "landmark distance, lips") < value(
        moved, "landmark distance, lips", "static"
    )


def test_contact_sheets_are_written(report: Path) -> None:
    portrait = cv2.imread(str(next((report / "portraits").glob("*.png"))))
    assert portrait.shape == (3 * 256, 6 * 256, 3)
    clips = cv2.imread(str(next((report / "clips").glob("*.png"))))
    assert clips.shape == (4 * 256, 8 * 256, 3)
    assert (report / "worst_identity.png").stat().st_size > 10_000


def test_of_a_large_folder_only_held_out_files_are_used(tmp_path: Path) -> None:
    for i in range(SMALL + 1):
        (tmp_path / f"{i:03}.jpg").touch()
        (tmp_path / f"{i:03}.txt").touch()
    (used,) = held_out([tmp_path], (".jpg",), 12)
    assert [path.stem for path in used] == ["000", "012", "024", "036", "048"]
    (tmp_path / "000.jpg").unlink()
    (used,) = held_out([tmp_path], (".jpg",), 12)
    assert len(used) == SMALL
    assert held_out([used[0]], (".jpg",), 12) == [[used[0]]]


def test_a_portrait_without_a_face_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="the extra 'research' is not installed")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((300, 300, 3), 128, np.uint8))
    done = subprocess.run(
        [*COMMAND, "--portraits", tmp_path / "grey.png", "--report", tmp_path / "report"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "NO_FACE" in done.stderr


def test_the_missing_extra_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "evaluate", "picture", "--portraits", tmp_path, "--report",
         tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert "pip install '.[research]' ./research" in done.stderr
    assert len(done.stderr.splitlines()) == 1
