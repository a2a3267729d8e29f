"""Health check of a service, for the container's HEALTHCHECK and for manual use.

python -m talkingface.serving.health [HOST:PORT]

Without an argument it checks the service of this container, at TALKINGFACE_PORT. Exit code 0 when
it is SERVING, 1 when it is not or does not answer within 3 s, 2 for wrong arguments.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT = 3.0  # seconds


def check(target: str, timeout: float = _TIMEOUT) -> str:
    """Return the health of a service, such as "SERVING", or the error if it does not answer.

    :param target: host:port of its gRPC server
    :param timeout: seconds to wait for a connection and an answer
    """
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status


def main(argv: list[str]) -> int:
    """Run the command; see the module.

    :param argv: arguments without the program's name
    :return: exit code
    """
    port = os.environ.get("TALKINGFACE_PORT", "")
    if len(argv) > 1 or not (argv or port):
        print("usage: python -m talkingface.serving.health [HOST:PORT]", file=sys.stderr)
        return 2
    health = check(argv[0] if argv else f"127.0.0.1:{port}")
    print(health)
    return 0 if health == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
