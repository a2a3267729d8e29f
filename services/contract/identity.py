"""Build identity: a digest of everything that decides the results of a build.

Replicas exchange state, and prepared portraits are used, only between equal builds. The digest
covers the syntax trees of source files without comments and docstrings, so that a change of words
does not change it; data files byte for byte; the versions of the numerical libraries; and, on
request, the instruction set, because the same network gives other bits under another one.

A wheel carries the digests of its files, written by `setup.py` when it is built, and so does every
image, which is made from a wheel. In a source tree they are computed at start. Libraries and
instruction set belong to the machine and are looked up at start in both cases.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

DIGITS = 12
ROOT = Path(__file__).parents[1]  # of the package
BUILD_FILE = "build_identity.json"
"""File below the root of an installed package: the digest of each file that counts, by path."""
# Instruction sets by which numerical libraries choose their kernels, as /proc/cpuinfo names them.
INSTRUCTIONS = frozenset(
    {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"}
    | {"amx_bf16", "asimd", "asimddp", "sve"}
)
# Pages of text, and networks that `renderer/fetch_assets.py` fetches and itself names by digest.
_IGNORED_SUFFIXES = {".md", ".tflite"}
_IGNORED_NAMES = {"__pycache__", BUILD_FILE}


def digest(
    parts: Iterable[str],
    libraries: Sequence[str] = (),
    processor: bool = False,
    root: Path = ROOT,
) -> str:
    """Return DIGITS hexadecimal digits that two builds share if their results are the same.

    :param parts: files and folders below `root`; of a folder, all files that count
    :param libraries: distributions whose versions count; one that is not installed counts as absent
    :param processor: whether the instruction set counts
    :param root: folder of the package, as a source tree or as installed
    :raises FileNotFoundError: a part that does not exist
    """
    build_file = root / BUILD_FILE
    if build_file.exists():
        files = _select(json.loads(build_file.read_text()), parts)
    else:
        files = file_digests(parts, root)
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{files[name]}\0".encode())
    for library in libraries:
        total.update(f"{library}=={_version(library)}\0".encode())
    if processor:
        total.update(" ".join(_processor()).encode())
    return total.hexdigest()[:DIGITS]


def file_digests(parts: Iterable[str] = (".",), root: Path = ROOT) -> dict[str, str]:
    """Compute the SHA-256 of each file that counts, by its path below `root` with slashes.

    :param parts: as for `digest`
    :param root: folder of the package's source tree
    :raises FileNotFoundError: a part that does not exist
    """
    digests: dict[str, str] = {}
    for path in {path for part in parts for path in _files(root, part)}:
        content = path.read_bytes()
        if path.suffix == ".py":
            content = _without_words(content)
        digests[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return digests


def _files(root: Path, part: str) -> Iterator[Path]:
    start = root / part
    if not start.is_dir():
        if not start.exists():
            raise FileNotFoundError(start)
        yield start
        return
    for path in start.rglob("*"):
        ignored = _IGNORED_NAMES & set(path.relative_to(root).parts)
        if path.is_file() and path.suffix not in _IGNORED_SUFFIXES and not ignored:
            yield path


def _select(files: Mapping[str, str], parts: Iterable[str]) -> dict[str, str]:
    """Return those of the files that are one of the parts or lie in one."""
    selected: dict[str, str] = {}
    for part in parts:
        matching = {
            name: value
            for name, value in files.items()
            if name == part or name.startswith(f"{part}/")
        }
        if not matching:
            raise FileNotFoundError(part)
        selected |= matching
    return selected


def _without_words(source: bytes) -> bytes:
    """Return a module's syntax tree as text, without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return _dump(tree).encode()


def _dump(node: object) -> str:
    """Return a syntax tree as text.

    Empty fields are left out, because versions of Python differ in which fields they have, and a
    wheel may be built under another version than the one that compares with it.
    """
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_dump(value)}"
            for name, value in ast.iter_fields(node)
            if value is not None and value != []
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    return repr(node)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> list[str]:
    found: frozenset[str] = frozenset()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                found = INSTRUCTIONS & set(value.split())
                break
    return [platform.machine(), *sorted(found)]
