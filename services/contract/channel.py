"""Limits of messages, and the options with which every client of the mesh opens its channels."""

from __future__ import annotations

MAX_CHUNK_BYTES = 1 << 20  # bytes of audio, image or features in one message
MAX_MESSAGE_BYTES = 32 << 20  # bytes of one gRPC message; gRPC itself refuses larger ones

CLIENT_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)
