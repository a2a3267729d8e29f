"""Settings of the orchestrator."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from talkingface.serving.config import ConfigError, ServiceConfig, cache_folder, setting


@dataclass(frozen=True, kw_only=True)
class OrchestratorConfig(ServiceConfig):
    """The orchestrator's settings, from environment variables named as in `serving.config`."""

    port: int = setting(50050, "Port of the gRPC service; 0 takes a free one.", low=0, high=65535)
    audio_features_target: str = setting("127.0.0.1:50051", "gRPC target of the speech encoder.")
    motion_gen_target: str = setting("127.0.0.1:50052", "gRPC target of the motion generator.")
    renderer_target: str = setting("127.0.0.1:50053", "gRPC target of the renderer.")
    shared_machine: bool = setting(
        False,
        "Whether the stages share the cores of one machine. With slots 0 they are then measured "
        "one after the other while nothing else runs, and sessions limited by what they cost "
        "together; until then to one.",
    )
    stage_open_timeout: float = setting(
        5.0, "Seconds within which a stage must accept a stream.", low=0.1, high=60
    )
    stage_timeout: float = setting(
        30.0, "Seconds by which a result of a stage may be overdue.", low=0.5, high=600
    )
    live_stage_timeout: float = setting(
        0.35,
        "The same in a live session if another replica of the stage could continue it.",
        low=0.05,
        high=600,
    )
    recovery_timeout: float = setting(
        30.0,
        "Seconds within which a session must continue at another replica of a stage, or the same.",
        low=0,
        high=600,
    )
    session_seconds: float = setting(
        4 * 3600.0, "Seconds that a session may last.", low=1, high=24 * 3600
    )
    live_idle_timeout: float = setting(
        600.0, "Seconds that the client of a live session may send nothing.", low=1, high=24 * 3600
    )
    caller_key: str = setting(
        "x-talkingface-caller", "Metadata key in which a proxy names the caller."
    )
    caller_slots: int = setting(
        0, "Concurrent sessions of one caller; 0 for no limit beside the slots.", low=0, high=1024
    )
    upload_slots: int = setting(
        4, "Concurrent uploads of portraits, which take no slots of sessions.", low=1, high=1024
    )
    resume_seconds: float = setting(
        60.0, "Age of a resume token beyond which it is refused.", low=0, high=3600
    )
    resume_key: str = setting(
        "", "Secret with which resume tokens are signed; the same in all orchestrators."
    )
    portrait_timeout: float = setting(
        60.0, "Seconds that the preparation of a portrait may take.", low=1, high=600
    )
    upload_store: Path = setting(
        lambda: cache_folder().with_name("uploads"),
        "Folder for uploaded portraits.",
    )
    upload_store_bytes: int = setting(
        1 << 30,
        "Bytes in that folder beyond which the least recently used portraits are deleted.",
        low=32 << 20,
        high=1 << 44,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[0-9a-z_.-]+", self.caller_key) or self.caller_key.endswith("-bin"):
            raise ConfigError(f"caller_key: {self.caller_key!r} is not a key of text metadata")
