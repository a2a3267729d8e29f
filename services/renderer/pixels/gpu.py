"""A GPU as the renderer uses it: memory, streams, copies and launches, all of them asynchronous."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from talkingface.renderer.arrays import AnyArray, Uint8Array
from talkingface.renderer.pixels.cuda_kernel import Kernel
from talkingface.renderer.pixels.device_array import DeviceArray

_ALIGNMENT = 256  # bytes; what copies and kernels read is faster when it begins at such an address
_CHUNK = 1 << 20  # bytes of uploads; a frame has 0.6 MB


class Gpu(Protocol):
    """One GPU; addresses are whole numbers."""

    def allocate(self, nbytes: int) -> int:
        """Allocate memory.

        :raises RuntimeError: there is not enough.
        """

    def free(self, pointer: int) -> None:
        """Free what `allocate` returned."""

    def pinned(self, nbytes: int) -> Uint8Array:
        """Allocate memory of the host, (nbytes,), that the GPU reads and writes by itself."""

    def stream(self) -> Any:
        """Make a stream, in which commands run one after the other."""

    def to_device(self, stream: Any, pointer: int, array: AnyArray) -> None:
        """Copy a contiguous array of the host, which must not change until that is done."""

    def to_host(self, stream: Any, array: AnyArray, pointer: int) -> None:
        """Copy into a contiguous array of the host."""

    def copy(self, stream: Any, target: int, source: int, nbytes: int) -> None:
        """Copy within the GPU."""

    def fill(self, stream: Any, pointer: int, byte: int, nbytes: int) -> None:
        """Write the same byte everywhere."""

    def launch(self, stream: Any, kernel: Kernel, shape: tuple[int, ...], args: Any) -> None:
        """Launch a kernel.

        :raises TypeError: an array of the host among the arguments.
        """

    def wait(self, stream: Any) -> None:
        """Wait until all commands in a stream are done, without spinning.

        :raises RuntimeError: one of them has failed.
        """


class CommandQueue:
    """The commands of a frame, collected, then sent to a stream with one copy of all uploads.

    Not before `wait` may memory be used again that a command reads on the host.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.launches, self.uploads = 0, 0  # sent so far
        self._stream = gpu.stream()
        self._commands: list[tuple[Any, tuple[Any, ...]]] = []
        self._chunks = [(gpu.pinned(_CHUNK), gpu.allocate(_CHUNK))]
        self._chunk, self._used = 0, 0  # the chunk in use, bytes of it
        self._sent = 0  # bytes of it that are on their way

    def launch(self, kernel: Kernel, shape: tuple[int, ...], *args: Any) -> None:
        """Launch a kernel."""
        self._commands.append((self.gpu.launch, (kernel, shape, args)))
        self.launches += 1

    def upload(self, array: AnyArray) -> DeviceArray:
        """Copy an array to the GPU before the commands of the queue."""
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        if start + array.nbytes > len(self._chunks[self._chunk][0]):
            self._send_uploads()
            self._next_chunk(array.nbytes)
            start = 0
        host, pointer = self._chunks[self._chunk]
        self._used = start + array.nbytes
        if array.nbytes:
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array)
            # A view of bytes is the quickest way to copy some 40 small arrays a frame.
            host.data[start : self._used] = array.data.cast("B")
        return DeviceArray(pointer + start, array.shape, array.dtype)

    def to_device(self, target: DeviceArray, array: AnyArray) -> None:
        """Copy an array of the host that is not to be staged."""
        self._commands.append((self.gpu.to_device, (target.pointer, array)))
        self.uploads += 1

    def to_host(self, array: AnyArray, source: DeviceArray) -> None:
        """Copy into an array of the host."""
        self._commands.append((self.gpu.to_host, (array, source.pointer)))

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Copy within the GPU."""
        self._commands.append((self.gpu.copy, (target.pointer, source.pointer, source.nbytes)))

    def fill(self, target: DeviceArray, byte: int) -> None:
        """Write the same byte everywhere."""
        self._commands.append((self.gpu.fill, (target.pointer, byte, target.nbytes)))

    def fill_now(self, target: DeviceArray, byte: int) -> None:
        """Write the same byte everywhere before the commands of the queue, even if these drop."""
        self.gpu.fill(self._stream, target.pointer, byte, target.nbytes)

    def discard(self) -> None:
        """Drop the commands that were not sent."""
        self._commands = []

    def submit(self) -> None:
        """Send uploads and commands to the stream."""
        self._send_uploads()
        commands, self._commands = self._commands, []
        for function, args in commands:
            function(self._stream, *args)

    def wait(self) -> None:
        """Wait until all that was sent is done.

        :raises RuntimeError: a command has failed.
        """
        self._chunk, self._used, self._sent = 0, 0, 0
        self.gpu.wait(self._stream)

    def _send_uploads(self) -> None:
        host, pointer = self._chunks[self._chunk]
        if self._used > self._sent:
            part = host[self._sent : self._used]
            self.gpu.to_device(self._stream, pointer + self._sent, part)
            self.uploads += 1
        self._sent = self._used

    def _next_chunk(self, nbytes: int) -> None:
        """Go on with a chunk that has room for so many bytes."""
        self._chunk, self._used, self._sent = self._chunk + 1, 0, 0
        size = max(nbytes, _CHUNK)
        if self._chunk == len(self._chunks):
            self._chunks.append((self.gpu.pinned(size), self.gpu.allocate(size)))
        elif len(self._chunks[self._chunk][0]) < size:
            self.gpu.free(self._chunks[self._chunk][1])
            self._chunks[self._chunk] = (self.gpu.pinned(size), self.gpu.allocate(size))
