"""Viewers of prepared portraits in memory; those unused for longest go when it is full."""

from __future__ import annotations

from collections import OrderedDict

from talkingface.contract.video import BackgroundKind, View
from talkingface.renderer.arrays import Int32Array
from talkingface.renderer.geometry import PreparedPortrait
from talkingface.renderer.portrait_store import PHOTO, PORTRAIT, PreparedPortraitStore, unpack
from talkingface.renderer.worker.backgrounds import background_pixels, cut_out, with_background
from talkingface.renderer.worker.viewport import PhotoPixels, Viewer, make_viewer


class ViewerCache:
    """Viewers by portrait and view."""

    def __init__(self, store: PreparedPortraitStore, max_bytes: int) -> None:
        """
        :param max_bytes: beyond which viewers go; the newest stays whatever its size.
        """
        self._store, self._max_bytes = store, max_bytes
        self._viewers: OrderedDict[bytes, tuple[Viewer, int]] = OrderedDict()
        self._bytes = 0

    def __call__(self, digest: bytes, values: Int32Array) -> Viewer:
        """Return the viewer of a prepared portrait, from memory or from the store.

        :param digest: (32,) of the portrait's file.
        :param values: (13,) the view as `View.from_array` takes it.
        :raises ServiceError: PORTRAIT_NOT_FOUND, also for the image of a background;
            FIELD_INVALID for one that cannot be decoded.
        """
        key = digest + values.tobytes()
        if key in self._viewers:
            self._viewers.move_to_end(key)
            return self._viewers[key][0]
        handle = f"sha256:{digest.hex()}"
        arrays = self._store.load(handle, PORTRAIT)
        portrait = unpack(PreparedPortrait, arrays, PORTRAIT)
        pixels = unpack(PhotoPixels, self._store.load(handle, PHOTO), PHOTO)
        view = View.from_array(values)
        if view.background.kind != BackgroundKind.PHOTO:
            portrait = cut_out(portrait)
            behind = background_pixels(view.background, portrait, self._store)
            portrait, pixels = with_background(portrait, pixels, behind)
        viewer = make_viewer(portrait, pixels, view)
        size = sum(array.nbytes for array in arrays.values()) + viewer.nbytes
        while self._viewers and self._bytes + size > self._max_bytes:
            _, (_, freed) = self._viewers.popitem(last=False)
            self._bytes -= freed
        self._viewers[key] = viewer, size
        self._bytes += size
        return viewer
