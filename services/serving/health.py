"""Asks a service for its health: the container's HEALTHCHECK, and a hand tool.

python -m talkingface.serving.health [HOST:PORT]

Without an argument it asks the service of this container, at TALKINGFACE_PORT. Exit code 0 when it
is SERVING, 1 when it is not or does not answer within 3 s, 2 when called wrongly.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT = 3.0  # seconds


def check(target: str, timeout: float = _TIMEOUT) -> str:
    """The health of a service, such as "SERVING" or, where it does not answer, why.

    :param target: host:port of its gRPC.
    :param timeout: seconds to wait for a connection and an answer.
    """
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def main(argv: list[str]) -> int:
    """Command line; see the module."""
    port = os.environ.get("TALKINGFACE_PORT", "")
    if len(argv) > 1 or not (argv or port):
        print("usage: python -m talkingface.serving.health [HOST:PORT]", file=sys.stderr)
        return 2
    health = check(argv[0] if argv else f"127.0.0.1:{port}")
    print(health)
    return 0 if health == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
