"""Checks the configuration of a session, and fills in its defaults."""

from __future__ import annotations

import secrets

from talkingface.contract.controls import SEED_LIMIT, Controls, check_controls, frame_of, overlay
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.portrait import HANDLE
from talkingface.contract.video import QUALITY, fill_in
from talkingface.orchestrator.session.resume_token import MAX_FRAMES_AFTER, MAX_POSITION
from talkingface.v1 import controls_pb2 as controls
from talkingface.v1 import media_pb2 as media
from talkingface.v1 import resume_pb2 as resume
from talkingface.v1 import talking_face_pb2 as talking_face

MAX_INLINE_PORTRAIT = 3 << 20  # bytes of a portrait within the configuration
# Codec of every output with video.
CODECS = {
    media.OUTPUT_KIND_FMP4: media.VIDEO_CODEC_H264,
    media.OUTPUT_KIND_H264: media.VIDEO_CODEC_H264,
    media.OUTPUT_KIND_JPEG: media.VIDEO_CODEC_JPEG,
    media.OUTPUT_KIND_PNG: media.VIDEO_CODEC_PNG,
}


def default_controls() -> controls.Controls:
    """Return the controls in effect where a session states none."""
    own = Controls()
    message = controls.Controls(
        distance_ratio=own.head_distance,
        head_pose={},
        head_motion_scale=own.head_motion_scale,
        emotion=controls.Emotion(strength=own.emotion_strength),
        mouth_scale=own.mouth_scale,
        audio_guidance=own.audio_guidance,
        expressivity=own.expressivity,
    )
    message.natural_gaze.SetInParent()
    return message


def effective_config(asked: talking_face.AnimateConfig) -> talking_face.AnimateConfig:
    """Return a checked copy with all defaults filled in.

    :raises ServiceError: FIELD_INVALID or IMAGE_TOO_LARGE.
    """
    config = talking_face.AnimateConfig()
    config.CopyFrom(asked)
    if config.output == media.OUTPUT_KIND_UNSPECIFIED:
        config.output = media.OUTPUT_KIND_FMP4
    if config.output not in media.OutputKind.values():
        raise invalid_field("config.output", f"{config.output} is not an OutputKind")
    if config.output == media.OUTPUT_KIND_MOTION:
        config.ClearField("portrait")
        for name in ("size", "frame_rate", "framing", "background"):
            config.ClearField(name)
    else:
        _check_portrait(config)
        fill_in(config)
    bounds = QUALITY.get(CODECS.get(config.output, media.VIDEO_CODEC_UNSPECIFIED))
    if bounds is None:
        config.ClearField("quality")
    elif not config.HasField("quality"):
        config.quality = bounds.default
    elif not bounds.low <= config.quality <= bounds.high:
        raise invalid_field(
            "config.quality", f"{config.quality} is outside {bounds.low}..{bounds.high}"
        )
    if not config.HasField("seed"):
        config.seed = secrets.randbits(32)
    if config.seed >= SEED_LIMIT:
        raise invalid_field("config.seed", f"{config.seed} is not below 2**63")
    if not config.HasField("audio"):
        raise invalid_field("config.audio", "must be stated")
    if config.pacing == talking_face.PACING_UNSPECIFIED:
        config.pacing = talking_face.PACING_OFFLINE
    if config.pacing not in talking_face.Pacing.values():
        raise invalid_field("config.pacing", f"{config.pacing} is not a Pacing")
    if config.resumable and config.output == media.OUTPUT_KIND_FMP4:
        raise invalid_field("config.resumable", "an MP4 cannot be continued in the middle")
    if config.resumable and config.background.HasField("image"):
        raise invalid_field("config.background.image", "is not kept by a resume token")
    check_controls(asked.controls, "config.controls")
    config.controls.CopyFrom(overlay(default_controls(), asked.controls))
    return config


def check_resume(asked: talking_face.AnimateConfig, state: resume.SessionState) -> None:
    """Check the request to resume a session.

    :param asked: configuration that holds nothing but `resume`.
    :param state: content of its token.
    :raises ServiceError: FIELD_INVALID.
    """
    if len(asked.ListFields()) > 1:
        raise invalid_field("config.resume", "nothing else may be stated with it")
    first = state.frames
    if not first <= asked.resume.next_frame <= first + MAX_FRAMES_AFTER:
        raise invalid_field(
            "config.resume.next_frame", f"{asked.resume.next_frame}, but the token has {first}"
        )
    live, received = state.config.pacing == talking_face.PACING_LIVE, asked.resume.frames
    if not (0 if live else asked.resume.next_frame) <= received <= asked.resume.next_frame:
        raise invalid_field(
            "config.resume.frames", f"{received}, of {asked.resume.next_frame} frames"
        )
    position = asked.resume.position
    if max(position.messages, position.utterance_bytes) > MAX_POSITION:
        raise invalid_field("config.resume.position", "is beyond the length of any session")
    if live:
        for update in asked.resume.controls:
            check_update(update, "config.resume.controls")
    elif asked.resume.controls:
        raise invalid_field("config.resume.controls", "are for PACING_LIVE")
    elif asked.resume.position != state.position:
        raise invalid_field("config.resume.position", "is not that of the token")


def check_update(update: controls.ControlUpdate, path: str) -> None:
    """Check the values and the time of a control update.

    :param path: path of the field in the client's message, for the error.
    :raises ServiceError: FIELD_INVALID.
    """
    check_controls(update.controls, f"{path}.controls")
    if update.HasField("time"):
        frame_of(update.time, f"{path}.time")


def _check_portrait(config: talking_face.AnimateConfig) -> None:
    match config.WhichOneof("portrait"):
        case "portrait_handle":
            if not HANDLE.fullmatch(config.portrait_handle):
                raise invalid_field(
                    "config.portrait_handle", "must be 'sha256:' and 64 hexadecimal digits"
                )
        case "portrait_image":
            if len(config.portrait_image) > MAX_INLINE_PORTRAIT:
                raise ServiceError(
                    "IMAGE_TOO_LARGE",
                    f"a portrait of {len(config.portrait_image)} bytes must be uploaded first: "
                    f"at most {MAX_INLINE_PORTRAIT} fit into the configuration",
                )
        case None:
            raise invalid_field("config.portrait_handle", "a portrait is required for video")
