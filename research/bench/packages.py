"""Disk that the packages of a mesh take in this environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_EXTRA = "mesh"  # of the distribution; trees without it need all of its dependencies
_BLOCK = 512  # bytes, of `st_blocks`


@dataclass(frozen=True)
class Disk:
    """Disk that packages take."""

    mebibytes: float  # Python's bytecode included, as far as it exists
    packages: int
    absent: tuple[str, ...]  # packages that are needed and not installed here


def disk_of(tree: Path) -> Disk:
    """The disk of all packages that a tree's mesh needs, and of its source with its models."""
    needed = _needed(tree)
    sizes, absent = {}, []
    for name in sorted(needed):
        try:
            sizes[name] = _size_of(importlib.metadata.distribution(name))
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    own = sum(_allocated(path) for path in (tree / "services").rglob("*") if _counts(path))
    total = own + sum(sizes.values())
    return Disk(total / 2**20, len(sizes), tuple(absent))


def _needed(tree: Path) -> set[str]:
    """The packages that a tree's mesh needs, and those that they need."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    own = canonicalize_name(project["name"])
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    names: set[str] = set()
    seen: set[str] = set()
    waiting = [*project["dependencies"], *extras.get(_EXTRA, [])]
    while waiting:
        text = waiting.pop()
        if text in seen:
            continue
        seen.add(text)
        requirement = Requirement(text)
        if not _applies(requirement, {""}):
            continue
        name = canonicalize_name(requirement.name)
        if name == own:
            waiting += [line for extra in requirement.extras for line in extras[extra]]
            continue
        names.add(name)
        waiting += _requirements(requirement)
    return names


def _requirements(requirement: Requirement) -> list[str]:
    """What a package needs in this environment, with the extras that are asked for.

    Extras are resolved here, so that the lines hold no condition on them any more.
    """
    try:
        lines = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    extras = requirement.extras or {""}
    needed = [one for one in map(Requirement, lines) if _applies(one, extras)]
    for one in needed:
        one.marker = None
    return [str(one) for one in needed]


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def _size_of(distribution: importlib.metadata.Distribution) -> int:
    paths = set()
    for file in distribution.files or []:
        path = Path(str(distribution.locate_file(file)))
        paths.add(path)
        if path.suffix == ".py":
            paths.add(Path(importlib.util.cache_from_source(str(path))))
    return sum(_allocated(path) for path in paths)


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * _BLOCK
    except OSError:  # such as tests that were deleted after the installation
        return 0
