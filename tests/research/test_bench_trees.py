"""A mesh of another source tree, with the packages of this environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from talkingface.cli.mesh import MeshError
from talkingface_research.bench.trees import Tree, caches, commit_of, mesh_of, python_for

# A mesh without services, which leaves a file when it is stopped.
MESH = """
from types import SimpleNamespace

class MeshError(RuntimeError):
    pass

class LocalMesh:
    def __init__(self, environ):
        self.environ = environ
        self.target = "127.0.0.1:7"
        self.processes = {"renderer": SimpleNamespace(pid=4711)}
        sum(range(10**7))  # some CPU time

    def __enter__(self):
        if "FAIL" in self.environ:
            raise MeshError("no mesh")
        return self

    def __exit__(self, *error):
        open(self.environ["STOPPED"], "w").close()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree whose package has a mesh as above."""
    folder = tmp_path_factory.mktemp("tree")
    package = folder / "services" / "cli"
    package.mkdir(parents=True)
    (package / "mesh.py").write_text(MESH)
    for init in (package / "__init__.py", package.parent / "__init__.py"):
        init.touch()
    return Tree(folder, python_for(folder, folder / "python"), caches(folder / "caches"))


def test_its_python_has_its_source_and_the_packages_of_this_one(tree: Tree) -> None:
    code = "import cv2, grpc, numpy, talkingface.cli; print(talkingface.cli.__file__)"
    command = [str(tree.python), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == tree.root / "services" / "cli" / "__init__.py"


def test_its_mesh_runs_until_it_is_no_longer_needed(tree: Tree, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    with mesh_of(tree, {"STOPPED": str(stopped)}) as mesh:
        assert mesh.target == "127.0.0.1:7"
        assert mesh.services == {"renderer": 4711}
        assert mesh.start_seconds > 0
        assert mesh.start_cpu > 0
        assert not stopped.exists()
    assert stopped.exists()
    assert list((tree.root / "caches" / "bytecode").rglob("mesh.*.pyc"))


def test_a_mesh_that_does_not_start_is_an_error(
    tree: Tree, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MeshError, match="has not started"), mesh_of(tree, {"FAIL": "1"}):
        pass
    assert capfd.readouterr().err == "talkingface: no mesh\n"


def test_a_commit_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(MeshError, match="no-such-commit"):
        commit_of("no-such-commit")
