"""A session's state as bytes: what JSON can carry, and arrays beside it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.errors import ServiceError

MAX_BYTES = 256 * 1024
_VALUES = "values"


def pack(values: Any, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Values (numbers, strings, lists and dictionaries of them) and arrays as bytes."""
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    np.savez(file, allow_pickle=False, **{_VALUES: text, **arrays})
    return file.getvalue()


def unpack(snapshot: bytes) -> tuple[Any, dict[str, NDArray[Any]]]:
    """What `pack` was given.

    :raises ServiceError: CHECKPOINT_MISMATCH for anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(snapshot)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise mismatch(f"it holds more than {MAX_BYTES} bytes")
        with np.load(io.BytesIO(snapshot), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(arrays.pop(_VALUES).tobytes()), arrays
    except (KeyError, OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise mismatch(f"not to be read: {error}") from None


def like(array: NDArray[Any], model: NDArray[Any]) -> NDArray[Any]:
    """`array`, if it has the type and the dimensions of `model` but for the first, and is finite.

    :raises ServiceError: CHECKPOINT_MISMATCH.
    """
    if array.dtype != model.dtype or array.shape[1:] != model.shape[1:] or array.ndim != model.ndim:
        raise mismatch(f"an array {array.shape} of {array.dtype}, not like {model.shape}")
    if not np.isfinite(array).all():
        raise mismatch("values that are not finite")
    return array


def mismatch(problem: str) -> ServiceError:
    """The error for a snapshot that cannot be used."""
    return ServiceError("CHECKPOINT_MISMATCH", f"the checkpoint cannot be used: {problem}")
