"""Which build this is: a digest of all that decides its results.

Replicas exchange state, and prepared portraits are used, only where this agrees. It covers the
syntax trees of source files without their docstrings, so that words change nothing of it; data
files byte for byte; the versions of the numerical libraries; and, where asked, the instruction set,
for the same network gives other bits under another one. It is computed from the files that run, in
a source tree as in an installed package or an image, so it cannot be out of date.
"""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

DIGITS = 12
ROOT = Path(__file__).parents[1]  # of the package
# Instruction sets by which numerical libraries choose their kernels, as /proc/cpuinfo names them.
INSTRUCTIONS = frozenset(
    {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"}
    | {"amx_bf16", "asimd", "asimddp", "sve"}
)
_IGNORED = {"__pycache__", "Dockerfile"}
_WORDS = {".md"}


def digest(
    parts: Iterable[str],
    libraries: Sequence[str] = (),
    processor: bool = False,
    root: Path = ROOT,
) -> str:
    """DIGITS hexadecimal digits that two builds share where their results are the same.

    :param parts: files below `root`, and folders: all in them but pages of text and Dockerfiles
    :param libraries: distributions whose versions count; one that is not installed counts as absent
    :param processor: whether the instruction set counts
    :raises FileNotFoundError: a part that does not exist
    """
    total = hashlib.sha256()
    for path in sorted({path for part in parts for path in _files(root / part)}):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = _meaning(content)
        total.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        total.update(content)
    for library in libraries:
        total.update(f"{library}=={_version(library)}\0".encode())
    if processor:
        total.update(" ".join(_processor()).encode())
    return total.hexdigest()[:DIGITS]


def _files(part: Path) -> Iterator[Path]:
    if not part.is_dir():
        if not part.exists():
            raise FileNotFoundError(part)
        yield part
        return
    for path in part.rglob("*"):
        if path.is_file() and path.suffix not in _WORDS and not _IGNORED & set(path.parts):
            yield path


def _meaning(source: bytes) -> bytes:
    """A module without its comments, docstrings and layout."""
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
    """A syntax tree as text. Fields that are empty are left out, as other versions of Python have
    others: a service and the models in its Triton need not run under the same."""
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
