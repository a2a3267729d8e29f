"""The wheels: their version, and the build's identity that is written into them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from talkingface.contract.identity import BUILD_FILE, digest, file_digests
from tests.support import ROOT

PARTS = ("audio_features", "contract", "motion_gen", "orchestrator", "renderer", "serving", "v1")


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """The output of a command; its messages are part of the failure's report."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy_of_sources(folder: Path) -> Path:
    """What a wheel is built from, as in an image's build context: without git."""
    folder.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.tflite")
    shutil.copytree(ROOT / "services", folder / "services", ignore=ignored)
    return folder


def installed(sources: Path, version: str) -> Path:
    """Build a wheel with the tools of this environment and install it into a folder."""
    wheels, folder = sources / "wheels", sources / "installed"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(
        *(*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels, "."),
        cwd=sources,
        SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TALKINGFACE=version,
    )
    (wheel,) = wheels.iterdir()
    run(*pip, "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=sources)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of version 7.6.5 was installed."""
    return installed(copy_of_sources(tmp_path_factory.mktemp("wheel") / "sources"), "7.6.5")


def test_wheel_has_the_identity_of_its_source_tree(package: Path) -> None:
    root = package / "talkingface"
    assert json.loads((root / BUILD_FILE).read_text()) == file_digests()
    for part in (*PARTS, "renderer/assets/face_model.npz", "serving/checkpoint.py"):
        assert digest((part,), root=root) == digest((part,)), part
    assert digest(PARTS, ("numpy",), True, root) == digest(PARTS, ("numpy",), True)
    with pytest.raises(FileNotFoundError):
        digest(("no_such_folder",), root=root)


def test_installed_package_reads_its_identity_and_version(package: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(package)!r}); import talkingface;"
        "from talkingface.contract.identity import digest;"
        "print(talkingface.__version__, talkingface.__file__, digest(('contract', 'motion_gen')))"
    )
    version, file, build = run(sys.executable, "-c", program, cwd=package).split()
    assert version == "7.6.5"
    assert Path(file).parent == package / "talkingface"
    assert build == digest(("contract", "motion_gen"))


def test_every_file_that_counts_is_in_the_wheel(package: Path) -> None:
    root = package / "talkingface"
    assert [name for name in file_digests() if not (root / name).is_file()] == []
    assert list(root.rglob("*.tflite")) == []


def test_identity_in_the_wheel_changes_with_a_constant_not_with_words(
    package: Path, tmp_path: Path
) -> None:
    sources = copy_of_sources(tmp_path / "sources")
    planner = sources / "services/motion_gen/behaviour/head.py"
    text = planner.read_text()
    assert "PITCH_LIFT = 0.4" in text
    planner.write_text(text.replace("PITCH_LIFT = 0.4", "TUNE = 0.5"))
    session = sources / "services/audio_features/session.py"
    session.write_text('"""Other words."""\n' + session.read_text().split('"""', 2)[2])
    # The step of the wheel's build that writes the identity; packing it would take much longer.
    run(sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", "built", cwd=sources)
    before, after = package / "talkingface", sources / "built/talkingface"
    assert digest(("motion_gen",), root=after) != digest(("motion_gen",), root=before)
    assert digest(("audio_features",), root=after) == digest(("audio_features",), root=before)
    assert (before / "audio_features/session.py").read_text() != session.read_text()


# --- versions


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of one commit with what decides the version of both distributions."""
    folder = tmp_path / "repository"
    (folder / "research").mkdir(parents=True)
    for name in (
        ".git_archival.txt",
        ".gitattributes",
        "pyproject.toml",
        "research/pyproject.toml",
    ):
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git, whatever the user's configuration is."""
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return run("git", *author, *arguments, cwd=folder, GIT_CONFIG_GLOBAL=os.devnull)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Change nothing")


def versions(folder: Path, **variables: str) -> set[str]:
    """The versions of talkingface and of talkingface-research."""
    command = (sys.executable, "-m", "setuptools_scm")
    return {run(*command, cwd=each, **variables) for each in (folder, folder / "research")}


def test_version_counts_the_commits_since_the_last_tag(repository: Path) -> None:
    (untagged,) = versions(repository)
    assert untagged == f"0.1.dev1+g{git(repository, 'rev-parse', 'HEAD')[:9]}"
    git(repository, "tag", "v1.2.0")
    assert versions(repository) == {"1.2.0"}
    commit(repository)
    (later,) = versions(repository)
    assert later == f"1.2.1.dev1+g{git(repository, 'rev-parse', 'HEAD')[:9]}"


def test_shallow_clone_has_a_version(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v1.2.0")
    commit(repository)
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(shallow))
    (version,) = versions(shallow)
    assert version == f"0.1.dev1+g{git(repository, 'rev-parse', 'HEAD')[:9]}"


def test_archive_of_a_tag_has_its_version(repository: Path, tmp_path: Path) -> None:
    def archived(name: str) -> set[str]:
        git(repository, "archive", "--output", str(tmp_path / f"{name}.tar"), "HEAD")
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            archive.extractall(tmp_path / name, filter="data")
        return versions(tmp_path / name)

    assert archived("untagged") == {"0.1.dev0"}  # the fallback
    git(repository, "tag", "v1.2.0")
    assert archived("tagged") == {"1.2.0"}


def test_version_without_git_is_an_argument_or_the_fallback(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    (repository / ".git_archival.txt").unlink()
    assert versions(repository) == {"0.1.dev0"}
    assert versions(repository, SETUPTOOLS_SCM_PRETEND_VERSION="2.0.0") == {"2.0.0"}
