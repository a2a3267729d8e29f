"""Source trees that are compared: a worktree of a commit, a Python for it, and a mesh run by it.

Every run has the source of its tree and the packages of this environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import talkingface
from talkingface.cli.mesh import MeshError
from talkingface_research.bench.processes import cpu_of, family

ROOT = Path(talkingface.__file__).resolve().parents[1]  # of this source
_SOURCES = {"talkingface": "services", "talkingface_research": "research"}
_START_SECONDS = 600  # a cold start on a loaded machine is a figure, not an error
# Holds a mesh until its standard input is closed.
_HOLD = f"""
import json, sys
from talkingface.cli import mesh as meshes
meshes.START_SECONDS = {_START_SECONDS}
try:
    with meshes.LocalMesh(environ=json.loads(sys.argv[1])) as mesh:
        services = {{name: process.pid for name, process in mesh.processes.items()}}
        print(json.dumps({{"target": mesh.target, "services": services}}), flush=True)
        sys.stdin.read()
except meshes.MeshError as error:
    sys.exit(f"talkingface: {{error}}")
"""


@dataclass(frozen=True)
class Tree:
    """A source tree and the Python that runs it."""

    root: Path
    python: Path
    environ: Mapping[str, str]  # beside that of this process


@dataclass(frozen=True)
class TreeMesh:
    """A running mesh of a tree."""

    target: str
    services: dict[str, int]  # process ids
    start_seconds: float  # from the start of its process until all services served
    start_cpu: float  # CPU seconds of all processes meanwhile


THIS = Tree(ROOT, Path(sys.executable), {})


@contextmanager
def mesh_of(tree: Tree, settings: Mapping[str, str]) -> Iterator[TreeMesh]:
    """Run the mesh of a tree.

    :param settings: environment variables of its services
    :raises MeshError: it has not started
    """
    settings = {"TALKINGFACE_TRITON_START_TIMEOUT": str(_START_SECONDS), **settings}
    begin = time.perf_counter()
    with subprocess.Popen(
        [str(tree.python), "-c", _HOLD, json.dumps(settings)],
        env={**os.environ, **tree.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise MeshError(f"the mesh of {tree.root} has not started")
        seconds = time.perf_counter() - begin
        cpu = sum(cpu_of(pid, ended=True) for pid in family(process.pid))
        started = json.loads(line)
        yield TreeMesh(started["target"], started["services"], seconds, cpu)


@contextmanager
def trees(commit: str, folder: Path) -> Iterator[tuple[Tree, Tree]]:
    """This tree, and a worktree of a commit, which is removed afterwards.

    :param commit: that exists, see `commit_of`
    :param folder: empty, for the worktree, the Pythons and their caches
    """
    other = folder / "tree"
    git = ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--quiet", "--detach", str(other), commit], check=True)
    try:
        pair = _tree(ROOT, folder / "ours"), _tree(other, folder / "other")
        fetch = [str(pair[1].python), "-m", "talkingface.renderer.fetch_assets", "models"]
        environ = {**os.environ, **pair[1].environ}
        subprocess.run(fetch, env=environ, check=True, stdout=subprocess.DEVNULL)
        yield pair
    finally:
        subprocess.run([*git, "remove", "--force", str(other)], check=True)


def commit_of(ref: str) -> str:
    """The full hash of a commit.

    :raises MeshError: there is no such commit, or no git
    """
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", f"{ref}^{{commit}}"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise MeshError(f"{ref} is no commit of {ROOT}") from None


def _tree(root: Path, folder: Path) -> Tree:
    """A tree with a Python and caches of its own, so that both sides begin with empty ones."""
    python = python_for(root, folder / "python")
    path = f"{python.parent}:{os.environ['PATH']}"
    return Tree(root, python, {"PATH": path, **caches(folder / "caches")})


def caches(folder: Path) -> dict[str, str]:
    """Settings for numba's compiled kernels and Python's bytecode in a folder."""
    return {
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",  # where it is set, no start would find any
    }


def python_for(tree: Path, folder: Path) -> Path:
    """Make a Python environment with the packages of this one and the source of a tree.

    By links, because Triton's Python backend ignores PYTHONPATH.
    """
    venv.create(folder, symlinks=True)
    target = folder / Path(sysconfig.get_paths()["purelib"]).relative_to(sys.prefix)
    for site in map(Path, sys.path):
        if site.name != "site-packages":
            continue
        for entry in site.iterdir():
            ours = entry.name in _SOURCES or entry.name.startswith("__editable__")
            if not ours and entry.suffix != ".pth" and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
    for name, source in _SOURCES.items():
        if (tree / source).is_dir():
            (target / name).symlink_to(tree / source)
    return folder / "bin" / "python3"
