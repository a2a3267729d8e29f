"""Which build it is: what changes it and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from talkingface.contract.identity import ROOT, digest
from talkingface.renderer.portrait_store import PREPARED_BY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package."""
    root = tmp_path / "talkingface"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "mediapipe"))
    return root


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_constant_of_the_planner_makes_another_build(tree: Path) -> None:
    before = digest(("contract", "motion_gen"), root=tree)
    replace(tree / "motion_gen/behaviour/head.py", "PITCH_LIFT = 0.4", "PITCH_LIFT = 0.5")
    assert digest(("contract", "motion_gen"), root=tree) != before


def test_words_change_nothing(tree: Path) -> None:
    before = digest(("contract", "motion_gen"), root=tree)
    planner = tree / "motion_gen/behaviour/head.py"
    replace(planner, '"""Head motion', '"""Motion of the head')
    planner.write_text("# A comment.\n" + planner.read_text())
    (tree / "motion_gen/README.md").write_text("Other words.")
    (tree / "motion_gen/__pycache__").mkdir()
    (tree / "motion_gen/__pycache__/head.pyc").write_bytes(b"compiled")
    assert digest(("contract", "motion_gen"), root=tree) == before


def test_weights_and_their_configuration_count(tree: Path) -> None:
    before = digest(("motion_gen",), root=tree)
    config = next((tree / "motion_gen/model_repository").rglob("config.pbtxt"))
    config.write_text(config.read_text() + "\n# more")
    changed = digest(("motion_gen",), root=tree)
    assert changed != before
    weights = next((tree / "motion_gen/model_repository").rglob("model.onnx"))
    weights.write_bytes(weights.read_bytes() + b"0")
    assert digest(("motion_gen",), root=tree) != changed


def test_a_portrait_is_prepared_anew_for_another_face_model_not_for_another_server(
    tree: Path,
) -> None:
    before = digest(PREPARED_BY, root=tree)
    replace(tree / "renderer/server.py", "setNumThreads(1)", "setNumThreads(2)")
    assert digest(PREPARED_BY, root=tree) == before
    model = tree / "renderer/assets/face_model.npz"
    model.write_bytes(model.read_bytes() + b"0")
    assert digest(PREPARED_BY, root=tree) != before


def test_libraries_and_a_part_that_is_missing(tree: Path) -> None:
    without = digest(("contract",), root=tree)
    assert digest(("contract",), ("numpy",), root=tree) != without
    assert digest(("contract",), ("no-such-library",), root=tree) != without
    with pytest.raises(FileNotFoundError):
        digest(("no_such_folder",), root=tree)
