"""Prepared portraits on disk, by the hash of the photo's file, and images for backgrounds.

The folder is shared between the service and its Triton, and may be shared by all replicas: a file
is written under another name first and then renamed, so that no reader sees half of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from talkingface.contract.errors import ServiceError
from talkingface.contract.identity import digest
from talkingface.contract.portrait import HANDLE
from talkingface.contract.video import background_digest
from talkingface.renderer.arrays import AnyArray
from talkingface.v1.renderer_pb2 import Portrait

Arrays = dict[str, AnyArray]

T = TypeVar("T")

# Handle of the face on which a renderer measures its speed: no photo is known to have this hash.
GREY_FACE = f"sha256:{hashlib.sha256(b'grey face').hexdigest()}"
# Parts of a prepared portrait: what frames need, and what larger or wider views need.
PORTRAIT, PHOTO = "portrait", "photo"
_MESSAGE = "message"
_BACKGROUND = "background"  # a file as the client has sent it

# What decides how a portrait is prepared and stored; `fetch_assets` names the networks by digest.
# Versions of libraries do not count, for the service and the models in its Triton, which run in
# containers of their own, must agree, and not all libraries are installed in both.
PREPARED_BY = (
    "contract/motion.py",
    "contract/video.py",
    "contract/portrait.py",
    "renderer/analysis",
    "renderer/assets/face_model.npz",
    "renderer/face",
    "renderer/fetch_assets.py",
    "renderer/geometry",
    "renderer/portrait_store.py",
    "renderer/worker/portrait_preparation.py",
)

# Identity of the code that prepares: what another build has stored is not used.
BUILD = digest(PREPARED_BY)


def pack(value: Any, name: str = "") -> Arrays:
    """Flatten a dataclass of arrays, numbers, tuples and dataclasses into named arrays.

    :param name: prefix of the names.
    """
    if dataclasses.is_dataclass(value):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, tuple):
        parts = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {name: np.asarray(value)}
    packed: Arrays = {}
    for key, part in parts:
        packed |= pack(part, f"{name}.{key}" if name else key)
    return packed


def unpack(kind: type[T], arrays: Arrays, name: str = "") -> T:
    """Rebuild what `pack` has flattened.

    :param kind: the dataclass.
    :param name: prefix of the names.
    :raises KeyError: for an array that is missing.
    """
    result: Any
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        prefix = f"{name}." if name else ""
        result = kind(
            **{
                f.name: unpack(hints[f.name], arrays, prefix + f.name)
                for f in dataclasses.fields(kind)
            }
        )
    elif typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        result = tuple(unpack(item, arrays, f"{name}.{i}") for i, item in enumerate(kinds))
    elif isinstance(kind, type) and issubclass(kind, tuple):  # with names
        fields = typing.get_type_hints(kind).values()
        result = kind(*(unpack(item, arrays, f"{name}.{i}") for i, item in enumerate(fields)))
    elif kind in (int, float, bool):
        result = kind(arrays[name])  # type: ignore[call-arg]
    else:
        result = arrays[name]
    return typing.cast(T, result)


class PreparedPortraitStore:
    """One folder of prepared portraits."""

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        """
        :param folder: created if it does not exist.
        :param max_bytes: size beyond which `evict` deletes; None: never.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, handle: str) -> Path:
        """The file of a portrait.

        :raises ServiceError: PORTRAIT_NOT_FOUND for what cannot be a handle.
        """
        if not HANDLE.fullmatch(handle):
            raise _not_found(handle)
        return self._folder / f"{handle.removeprefix('sha256:')}.{BUILD}.npz"

    def has(self, handle: str) -> bool:
        """Whether the portrait is stored; if so, mark it as just used."""
        try:
            os.utime(self._path(handle))
        except (OSError, ServiceError):
            return False
        return True

    def save(self, portrait: Portrait, arrays: Arrays) -> None:
        """Save a prepared portrait under its handle."""
        message = np.frombuffer(portrait.SerializeToString(), np.uint8)
        self._write(portrait.handle, {_MESSAGE: message, **arrays})

    def save_background(self, image: bytes) -> str:
        """Save the file of an image for a background, and return its handle."""
        handle = f"sha256:{background_digest(image).hex()}"
        if not self.has(handle):
            self._write(handle, {_BACKGROUND: np.frombuffer(image, np.uint8)})
        return handle

    def background(self, digest: bytes) -> bytes:
        """Load the file of an image for a background.

        :param digest: (32,) of `contract.video.background_digest`.
        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        return self._read(f"sha256:{digest.hex()}", _BACKGROUND)[_BACKGROUND].tobytes()

    def _write(self, handle: str, arrays: Arrays) -> None:
        """Write a file whole or not at all."""
        path = self._path(handle)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
            try:
                np.savez(file, **arrays)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    def load(self, handle: str, part: str) -> Arrays:
        """Load the arrays of a prepared portrait.

        :param part: PORTRAIT or PHOTO, the prefix with which `pack` has named them.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        return self._read(handle, part)

    def portrait(self, handle: str) -> Portrait:
        """Load what clients learn about a prepared portrait.

        :raises ServiceError: PORTRAIT_NOT_FOUND.
        """
        return Portrait.FromString(self._read(handle, _MESSAGE)[_MESSAGE].tobytes())

    def _read(self, handle: str, part: str) -> Arrays:
        try:
            with np.load(self._path(handle), allow_pickle=False) as file:
                names = [name for name in file.files if name.partition(".")[0] == part]
                return {name: file[name] for name in names}
        except FileNotFoundError:
            raise _not_found(handle) from None

    def evict(self, in_use: Collection[str]) -> list[str]:
        """Delete the portraits unused for longest until the folder is within its size.

        :param in_use: handles that stay whatever their age.
        :return: names of the files deleted.
        """
        if self._max_bytes is None:
            return []
        kept = {self._path(handle).name for handle in in_use}
        files = []
        for path in self._folder.glob("*.npz"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another replica deletes as well
                continue
            files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        deleted = []
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                break
            if path.name not in kept:
                path.unlink(missing_ok=True)
                total -= size
                deleted.append(path.name)
        return deleted


def _not_found(handle: str) -> ServiceError:
    return ServiceError(
        "PORTRAIT_NOT_FOUND",
        "no portrait under this handle; upload it and call again",
        metadata={"handle": handle[:80]},
    )
