"""The true status of a call whose server has ended it while the client was writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from talkingface.contract.call_status import CallStatus
from talkingface.contract.errors import ServiceError

METHOD = "/test.Test/Refuse"
MESSAGES = 3


async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
    for _ in range(MESSAGES):
        await context.write(b"answer")
    await context.abort_with_status(ServiceError("NO_FACE", "nobody is there").to_status())


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Refuse": grpc.stream_stream_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("unread", range(MESSAGES + 1))
async def test_the_status_arrives_whatever_is_unread(address: str, unread: int) -> None:
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(20):
        for _ in range(20):  # gRPC overwrites the status in some of them
            call: Any = channel.stream_stream(METHOD)()
            status = CallStatus(call)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                for _ in range(MESSAGES - unread):
                    await call.read()
                while True:
                    await call.write(b"request")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                while True:
                    await call.read()
            received = await status.error(raised.value)
            assert (received.reason, received.message) == ("NO_FACE", "nobody is there")
