"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from talkingface.client._client import TalkingFace
from talkingface.client._messages import Message, SessionInput
from talkingface.v1.renderer_pb2 import Portrait
from talkingface.v1.talking_face_pb2 import GetCapabilitiesResponse, SelfTestResponse

T = TypeVar("T")


class BlockingTalkingFace:
    """A connection to a mesh whose methods block, for use without asyncio and from any thread.

    with BlockingTalkingFace("127.0.0.1:50050") as face, open("talking.mp4", "wb") as file:
        for message in face.animate(portrait=Path("face.jpg"), audio=Path("voice.flac")):
            if isinstance(message, Media):
                file.write(message.data)

    The calls run in an event loop of a thread of its own. Parameters and errors are those of
    `TalkingFace`.
    """

    def __init__(self, target: str, **options: Any) -> None:
        """
        :param target: host:port of the orchestrator, or any other gRPC target
        :param options: parameters of `TalkingFace`
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="talkingface", daemon=True
        )
        self._thread.start()
        try:
            self._face = self._run(_connect(target, options))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and end all calls."""
        if self._loop.is_closed():
            return
        self._run(self._face.close())
        self._run(self._loop.shutdown_asyncgens())  # sessions whose iterators are still open
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def animate(
        self,
        *,
        portrait: Path | bytes | str | None,
        audio: Path | bytes | Iterable[SessionInput],
        **options: Any,
    ) -> Iterator[Message]:
        """Animate a portrait, and yield messages while the audio is still being sent.

        Closing the iterator ends the session.

        :param audio: as in `TalkingFace.animate`, with a plain iterable in place of an asynchronous
            one; it may block
        :param options: the other parameters of `TalkingFace.animate`
        """
        source = audio if isinstance(audio, Path | bytes) else _iterate(iter(audio))
        messages = self._face.animate(portrait=portrait, audio=source, **options)
        try:
            while (message := self._run(_following(messages))) is not None:
                yield message
        finally:
            if not self._loop.is_closed():
                self._run(messages.aclose())

    def upload_portrait(self, image: Path | bytes) -> Portrait:
        """See `TalkingFace.upload_portrait`."""
        return self._run(self._face.upload_portrait(image))

    def capabilities(self) -> GetCapabilitiesResponse:
        """See `TalkingFace.capabilities`."""
        return self._run(self._face.capabilities())

    def self_test(self, portrait_handle: str | None = None) -> SelfTestResponse:
        """See `TalkingFace.self_test`."""
        return self._run(self._face.self_test(portrait_handle))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread of the loop, and return its result."""
        running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result()
        except BaseException:  # such as a KeyboardInterrupt while it waits
            running.cancel()
            raise


async def _connect(target: str, options: dict[str, Any]) -> TalkingFace:
    return TalkingFace(target, **options)  # in the loop that its channel belongs to


async def _following(messages: AsyncIterator[Message]) -> Message | None:
    """Return the next message, or None after the last."""
    return await anext(messages, None)


async def _iterate(items: Iterator[SessionInput]) -> AsyncIterator[SessionInput]:
    """Yield the items of an iterator that may block."""
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        yield item
