"""How a mesh is reached: its address, and what secures the connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from talkingface.contract.channel import CLIENT_OPTIONS

ChannelOptions = Sequence[tuple[str, Any]]


class Endpoint:
    """Opens channels to a mesh."""

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        call_credentials: grpc.CallCredentials | None = None,
        options: ChannelOptions = (),
    ) -> None:
        """
        :param target: gRPC target
        :param credentials: of TLS, such as `grpc.ssl_channel_credentials(...)`; None: in the clear
        :param call_credentials: sent with every call, such as
            `grpc.access_token_call_credentials(...)`
        :param options: of the channels, beside or in place of this client's own
        :raises ValueError: call credentials without TLS
        """
        if call_credentials is not None:
            if credentials is None:
                raise ValueError("call credentials are sent over TLS only: give `credentials` too")
            credentials = grpc.composite_channel_credentials(credentials, call_credentials)
        self._target = target
        self._credentials = credentials
        self._options = {**dict(CLIENT_OPTIONS), **dict(options)}

    def channel(self, options: ChannelOptions = ()) -> grpc.aio.Channel:
        """Open a channel; connecting is lazy."""
        merged = tuple({**self._options, **dict(options)}.items())
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=merged)
        return grpc.aio.secure_channel(self._target, self._credentials, options=merged)
