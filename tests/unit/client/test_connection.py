"""How the client connects, with and without asyncio, against a server of a few lines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from talkingface.client import (
    OUTPUT_KIND_MOTION,
    BlockingTalkingFace,
    Motion,
    Started,
    Summary,
    TalkingFace,
    TalkingFaceError,
    Unavailable,
    pcm,
)
from talkingface.v1.motion_pb2 import MotionFrame
from talkingface.v1.renderer_pb2 import Portrait
from talkingface.v1.talking_face_pb2 import (
    AnimateResponse,
    GetCapabilitiesResponse,
    UploadPortraitResponse,
)
from talkingface.v1.talking_face_pb2_grpc import (
    TalkingFaceServiceServicer,
    add_TalkingFaceServiceServicer_to_server,
)

FOLDER = Path(__file__).parent
# Of a certificate for "localhost" that signs itself; for tests alone.
CERTIFICATE = (FOLDER / "localhost.crt").read_bytes()
KEY = (FOLDER / "localhost.key").read_bytes()


class FakeService(TalkingFaceServiceServicer):
    """A motion frame for each message of audio; remembers who called."""

    def __init__(self) -> None:
        self.authorization: list[str] = []
        self.ended = threading.Event()

    def GetCapabilities(self, request: Any, context: Any) -> GetCapabilitiesResponse:
        metadata = dict(context.invocation_metadata())
        self.authorization.append(metadata.get("authorization", ""))
        return GetCapabilitiesResponse(version="7")

    def UploadPortrait(self, requests: Any, context: Any) -> UploadPortraitResponse:
        size = sum(len(request.data) for request in requests)
        if size < 10:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too small")
        return UploadPortraitResponse(portrait=Portrait(handle="h", width=size))

    def Animate(self, requests: Any, context: Any) -> Iterator[AnimateResponse]:
        context.add_callback(self.ended.set)
        assert next(requests).HasField("config")
        yield AnimateResponse(started=Started(session_id="s"))
        count = 0
        for request in requests:
            if request.HasField("audio"):
                frame = MotionFrame(index=count)
                yield AnimateResponse(motion=Motion(frames=[frame]))
                count += 1
        yield AnimateResponse(summary=Summary(frames=count))


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def ports(service: FakeService) -> Iterator[tuple[int, int]]:
    """Ports of the server: in the clear, and by TLS."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_TalkingFaceServiceServicer_to_server(service, server)
    clear = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port(
        "localhost:0", grpc.ssl_server_credentials([(KEY, CERTIFICATE)])
    )
    server.start()
    yield clear, secure
    server.stop(0)


TLS = grpc.ssl_channel_credentials(CERTIFICATE)


async def test_tls_with_a_token(service: FakeService, ports: tuple[int, int]) -> None:
    token = grpc.access_token_call_credentials("secret")
    target = f"localhost:{ports[1]}"
    async with TalkingFace(target, credentials=TLS, call_credentials=token) as face:
        assert (await face.capabilities()).version == "7"
    assert service.authorization == ["Bearer secret"]


async def test_a_server_that_is_not_trusted_gets_nothing(
    service: FakeService, ports: tuple[int, int]
) -> None:
    untrusting = grpc.ssl_channel_credentials()
    async with TalkingFace(f"localhost:{ports[1]}", credentials=untrusting) as face:
        with pytest.raises(Unavailable):
            await face.capabilities()
    assert not service.authorization


def test_a_token_is_never_sent_in_the_clear() -> None:
    with pytest.raises(ValueError, match="over TLS only"):
        TalkingFace("localhost:1", call_credentials=grpc.access_token_call_credentials("secret"))


async def test_options_of_the_channel(ports: tuple[int, int]) -> None:
    options = [("grpc.max_receive_message_length", 1)]
    async with TalkingFace(f"127.0.0.1:{ports[0]}", options=options) as face:
        with pytest.raises(Exception, match="larger than max"):
            await face.capabilities()


def animate(face: BlockingTalkingFace, audio: Any) -> Iterator[Any]:
    return face.animate(
        portrait=None, audio=audio, audio_format=pcm(16_000), output=OUTPUT_KIND_MOTION
    )


@pytest.mark.parametrize("secure", [False, True])
def test_blocking_use(ports: tuple[int, int], secure: bool) -> None:
    target, options = f"127.0.0.1:{ports[0]}", {}
    if secure:
        target, options = f"localhost:{ports[1]}", {"credentials": TLS}
    with BlockingTalkingFace(target, **options) as face:
        assert face.capabilities().version == "7"
        assert face.upload_portrait(bytes(20)).width == 20
        with pytest.raises(TalkingFaceError, match="too small"):
            face.upload_portrait(b"")
        started, *motion, summary = animate(face, iter([bytes(4), bytes(4), bytes(4)]))
        assert isinstance(started, Started)
        assert [frame.index for message in motion for frame in message.frames] == [0, 1, 2]
        assert summary.frames == 3
    face.close()  # once more does no harm


def test_frames_arrive_while_blocking_audio_is_being_read(ports: tuple[int, int]) -> None:
    received = threading.Event()

    def microphone() -> Iterator[bytes]:
        yield bytes(4)
        assert received.wait(30), "the first frame came before the second chunk"
        yield bytes(4)

    with BlockingTalkingFace(f"127.0.0.1:{ports[0]}") as face:
        for message in animate(face, microphone()):
            if isinstance(message, Motion):
                received.set()
        assert isinstance(message, Summary)


def test_closing_the_iterator_ends_the_session(
    service: FakeService, ports: tuple[int, int]
) -> None:
    def endless() -> Iterator[bytes]:
        while not service.ended.is_set():
            yield bytes(4)

    with BlockingTalkingFace(f"127.0.0.1:{ports[0]}") as face:
        messages = animate(face, endless())
        assert isinstance(next(messages), Started)
        messages.close()  # type: ignore[attr-defined]
        assert service.ended.wait(30)


def test_leaving_with_an_open_iterator_ends_its_session(
    service: FakeService, ports: tuple[int, int]
) -> None:
    def endless() -> Iterator[bytes]:
        while not service.ended.is_set():
            yield bytes(4)

    with BlockingTalkingFace(f"127.0.0.1:{ports[0]}") as face:
        messages = animate(face, endless())
        assert isinstance(next(messages), Started)
    assert service.ended.wait(30)
    messages.close()  # type: ignore[attr-defined]  # later, as the garbage collector does


def test_a_connection_that_cannot_be_made_leaves_no_thread() -> None:
    with pytest.raises(ValueError, match="over TLS only"):
        BlockingTalkingFace(
            "localhost:1", call_credentials=grpc.access_token_call_credentials("secret")
        )
    assert "talkingface" not in {thread.name for thread in threading.enumerate()}


def test_an_error_of_the_audio_reaches_the_caller(ports: tuple[int, int]) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(4)
        raise RuntimeError("unplugged")

    with BlockingTalkingFace(f"127.0.0.1:{ports[0]}") as face, pytest.raises(RuntimeError):
        list(animate(face, broken()))
