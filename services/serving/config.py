"""Settings of the services, read from environment variables named `TALKINGFACE_` + field name.

Each service has one frozen dataclass. A field is declared with `setting(default, doc, low, high)`;
`load` reads and checks them; `load_or_exit` ends the process with a message that names every
invalid variable.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from talkingface.serving.triton.device import DEVICES

PREFIX = "TALKINGFACE_"
VIDEO_ENCODERS = ("auto", "x264", "nvenc")

T = TypeVar("T")


class ConfigError(ValueError):
    """One or more settings are invalid; the message has a line for each."""


class StartError(RuntimeError):
    """A setting asks for what this machine does not have; the service does not start."""


def setting(default: Any, doc: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Declare a dataclass field.

    :param default: value, or function that returns it
    :param doc: description, for `describe`
    :param low: smallest value allowed
    :param high: largest value allowed
    """
    metadata = {"doc": doc, "low": low, "high": high}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def replica_name() -> str:
    """Return the default name of this replica: the pod's in Kubernetes, else the machine's."""
    return socket.gethostname()


def cache_folder() -> Path:
    """Return the default folder of prepared portraits."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "talkingface" / "portraits"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Settings of every service."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 or [::] for all interfaces.")
    port: int = setting(0, "Port of the gRPC service; 0 takes a free one.", low=0, high=65535)
    metrics_port: int = setting(
        0, "Port of the Prometheus metrics; 0 takes a free one.", low=0, high=65535
    )
    slots: int = setting(
        4,
        "Streams held at a time; one more is refused. 0: measured at the start.",
        low=0,
        high=1024,
    )
    idle_timeout: float = setting(
        30.0, "Seconds that a client may neither send nor receive.", low=0.1, high=3600
    )
    drain_timeout: float = setting(
        30.0, "Seconds that streams may continue after SIGTERM.", low=0, high=3600
    )
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR.")
    replica: str = setting(replica_name, "Name of this replica in answers and logs.")

    def __post_init__(self) -> None:
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError(f"log_level: {self.log_level!r} is not a log level")


@dataclass(frozen=True, kw_only=True)
class StageConfig(ServiceConfig):
    """Further settings of every stage."""

    device: str = setting(
        "auto", "Where the models run: cpu, gpu, or auto for a GPU if there is one that works."
    )
    # Longer than the orchestrator's, because a stage's stream pauses while a later stage is slow.
    idle_timeout: float = setting(
        120.0, "Seconds that a client may neither send nor receive.", low=0.1, high=3600
    )
    triton_url: str | None = setting(
        None, "host:port of Triton's gRPC server; absent: start an embedded Triton."
    )
    triton_timeout: float = setting(
        10.0, "Seconds that one inference may take, queueing included.", low=0.1, high=300
    )
    triton_start_timeout: float = setting(
        120.0, "Seconds within which Triton must have loaded its models.", low=1, high=3600
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("device", self.device, DEVICES)


@dataclass(frozen=True, kw_only=True)
class AudioFeaturesConfig(StageConfig):
    """Settings of the speech encoder."""

    port: int = setting(50051, "Port of the gRPC service; 0 takes a free one.", low=0, high=65535)


@dataclass(frozen=True, kw_only=True)
class MotionGenConfig(StageConfig):
    """Settings of the motion generator."""

    port: int = setting(50052, "Port of the gRPC service; 0 takes a free one.", low=0, high=65535)


@dataclass(frozen=True, kw_only=True)
class RendererConfig(StageConfig):
    """Settings of the renderer."""

    port: int = setting(50053, "Port of the gRPC service; 0 takes a free one.", low=0, high=65535)
    portrait_store: Path = setting(  # noqa: RUF009
        cache_folder, "Folder of prepared portraits, shared between the service and its Triton."
    )
    portrait_store_bytes: int = setting(
        2 << 30,
        "Bytes of that folder above which the least recently used portraits are deleted.",
        low=64 << 20,
        high=1 << 44,
    )
    video_encoder: str = setting(
        "auto", "Encoder of H.264: x264, nvenc, or auto for NVENC if the GPU has it."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("video_encoder", self.video_encoder, VIDEO_ENCODERS)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(allowed)}")


_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_PARSERS: dict[type, Callable[[str], object]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: _BOOLEANS[text.lower()],
    Path: lambda text: Path(text).expanduser(),
}


def load(cls: type[T], environ: Mapping[str, str] | None = None) -> T:
    """Read a configuration dataclass from the environment.

    :param cls: class of the configuration
    :param environ: variables; default: those of this process
    :raises ConfigError: naming every variable that cannot be read or is out of range.
    """
    environ = os.environ if environ is None else environ
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        variable = PREFIX + field.name.upper()
        text = environ.get(variable, "")
        if not text:  # an empty variable counts as absent
            continue
        try:
            value = _PARSERS[_plain(hints[field.name])](text)
        except (ValueError, KeyError):
            kind = _plain(hints[field.name]).__name__
            problems.append(f"{variable}={text!r} is not of type {kind}")
            continue
        low, high = field.metadata.get("low"), field.metadata.get("high")
        # Not written as `<` or `>`, so that NaN fails as well.
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            problems.append(f"{variable}={text!r} is outside [{low}, {high}]")
            continue
        values[field.name] = value
    if problems:
        raise ConfigError("\n".join(problems))
    return cls(**values)


def load_or_exit(cls: type[T]) -> T:
    """Read a configuration as `load` does, for a service's main module.

    An invalid setting or any argument ends the process with exit code 2 and a message; `--help`
    prints a table of the settings.
    """
    if sys.argv[1:] == ["--help"]:
        print(describe(cls))
        raise SystemExit(0)
    if sys.argv[1:]:
        print("the only argument is --help; settings are environment variables", file=sys.stderr)
        raise SystemExit(2)
    try:
        return load(cls)
    except ConfigError as error:
        print(f"configuration: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def describe(cls: type[Any]) -> str:
    """Return a Markdown table of the settings: variable, default, range, meaning."""
    defaults = load(cls, {})
    lines = ["| variable | default | range | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        default = getattr(defaults, field.name)
        low, high = field.metadata["low"], field.metadata["high"]
        bounds = "" if low is None else f"{low}..{high}"
        shown = "" if default is None else default
        meaning = field.metadata["doc"]
        lines.append(f"| {PREFIX}{field.name.upper()} | {shown} | {bounds} | {meaning} |")
    return "\n".join(lines)


def _plain(hint: Any) -> type:
    """Return the type of a field without None: `int` for `int | None`."""
    if isinstance(hint, types.UnionType):
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    return typing.cast(type, hint)
