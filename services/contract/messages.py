"""Conversion of arrays to messages and back, with every check that the protos promise."""

from __future__ import annotations

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.channel import MAX_CHUNK_BYTES
from talkingface.contract.errors import ServiceError, invalid_field
from talkingface.contract.motion import (
    ARKIT_DIM,
    DISTANCE,
    MOTION_DIM,
    PITCH,
    TONGUE_BACK,
    TONGUE_TIP,
    TRANSLATION_X,
)
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.v1 import audio_features_pb2, motion_gen_pb2, motion_pb2

# Ranges of a motion frame's columns, as protos/talkingface/v1/motion.proto states them.
MOTION_LOW = np.array([0.0] * ARKIT_DIM + [-30.0] * 3 + [-1.0] * 2 + [0.7] + [0.0] * 2, np.float32)
MOTION_HIGH = np.array([1.0] * ARKIT_DIM + [30.0] * 3 + [1.0] * 2 + [1.6] + [1.0] * 2, np.float32)

# Frames: a day of motion, which no session exceeds.
_MAX_START_FRAME = 24 * 3600 * MOTION_FPS


def check_start_frame(frame: int) -> None:
    """Check the first frame of a stream.

    :raises ServiceError: FIELD_INVALID for a start beyond a day of motion.
    """
    if frame > _MAX_START_FRAME:
        raise invalid_field("config.start_frame", f"{frame} exceeds {_MAX_START_FRAME}")


def check_size(data: bytes, path: str) -> None:
    """Check the size of a field of bytes.

    :param path: path of the field, for the error
    :raises ServiceError: MESSAGE_TOO_LARGE beyond `MAX_CHUNK_BYTES`.
    """
    if len(data) > MAX_CHUNK_BYTES:
        raise ServiceError(
            "MESSAGE_TOO_LARGE",
            f"{path}: {len(data)} bytes, at most {MAX_CHUNK_BYTES} a message",
            metadata={"bytes": str(len(data)), "limit": str(MAX_CHUNK_BYTES)},
        )


def float_rows(data: bytes, columns: int, path: str) -> Float32Array:
    """Convert a field of little-endian 32-bit floats to an array (n, columns).

    :param path: path of the field, for errors
    :raises ServiceError: MESSAGE_TOO_LARGE, or FIELD_INVALID for a broken length.
    """
    check_size(data, path)
    if len(data) % (4 * columns):
        raise invalid_field(path, f"{len(data)} bytes are not rows of {columns} floats")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, columns)


def features_message(
    first_row: int, features: Float32Array, prosody: Float32Array
) -> audio_features_pb2.AudioFeatures:
    """Convert rows of the speech encoder to a message.

    :param first_row: index of the first row in the stream
    :param features: (n, 128)
    :param prosody: (n, 4)
    """
    return audio_features_pb2.AudioFeatures(
        first_row=first_row,
        rows=len(features),
        embedding=features.astype("<f4").tobytes(),
        prosody=prosody.astype("<f4").tobytes(),
    )


def features_arrays(
    message: audio_features_pb2.AudioFeatures, expected_row: int
) -> tuple[Float32Array, Float32Array]:
    """Convert a message to rows of the speech encoder.

    :param expected_row: index at which the message must begin
    :return: features (n, 128) and prosody (n, 4)
    :raises ServiceError: MESSAGE_ORDER for a gap, FIELD_INVALID, MESSAGE_TOO_LARGE.
    """
    if message.first_row != expected_row:
        raise ServiceError(
            "MESSAGE_ORDER", f"features.first_row is {message.first_row}, expected {expected_row}"
        )
    features = float_rows(message.embedding, FEATURE_DIM, "features.embedding")
    prosody = float_rows(message.prosody, SPEECH_DIM, "features.prosody")
    if not len(features) == len(prosody) == message.rows:
        raise invalid_field(
            "features.rows",
            f"{message.rows}, but embedding has {len(features)} and prosody {len(prosody)} rows",
        )
    for path, rows in (("features.embedding", features), ("features.prosody", prosody)):
        if not np.isfinite(rows).all():
            raise invalid_field(path, "contains values that are not finite")
    return features, prosody


def motion_message(first_index: int, motion: Float32Array) -> motion_gen_pb2.MotionChunk:
    """Convert motion frames to a message.

    :param first_index: index of the first frame in the stream
    :param motion: (n, 60), see `talkingface.contract.motion`
    """
    frames = []
    for index, row in enumerate(motion.tolist(), first_index):
        pitch, yaw, roll, x, y, distance, tip, back = row[ARKIT_DIM:]
        frames.append(
            motion_pb2.MotionFrame(
                index=index,
                coefficients=row[:ARKIT_DIM],
                rotation=motion_pb2.HeadRotation(pitch=pitch, yaw=yaw, roll=roll),
                translation=motion_pb2.HeadTranslation(x=x, y=y),
                distance_ratio=distance,
                tongue_tip=tip,
                tongue_back=back,
            )
        )
    return motion_gen_pb2.MotionChunk(frames=frames)


def motion_array(chunk: motion_gen_pb2.MotionChunk, expected_index: int) -> Float32Array:
    """Convert a message to motion frames, (n, 60).

    :param expected_index: index at which the frames must begin
    :raises ServiceError: MESSAGE_ORDER for a gap, FIELD_INVALID for a value out of range.
    """
    motion = np.zeros((len(chunk.frames), MOTION_DIM), np.float32)
    for i, (row, frame) in enumerate(zip(motion, chunk.frames, strict=True)):
        if frame.index != expected_index + i:
            raise ServiceError(
                "MESSAGE_ORDER", f"motion frame {frame.index}, expected {expected_index + i}"
            )
        if len(frame.coefficients) != ARKIT_DIM:
            raise invalid_field(
                f"motion.frames[{i}].coefficients", f"{len(frame.coefficients)}, not {ARKIT_DIM}"
            )
        rotation, translation = frame.rotation, frame.translation
        row[:ARKIT_DIM] = frame.coefficients
        row[PITCH : PITCH + 3] = rotation.pitch, rotation.yaw, rotation.roll
        row[TRANSLATION_X : TRANSLATION_X + 2] = translation.x, translation.y
        row[DISTANCE] = frame.distance_ratio
        row[TONGUE_TIP], row[TONGUE_BACK] = frame.tongue_tip, frame.tongue_back
    # Not written as `<` or `>`, so that NaN fails as well.
    bad = ~((motion >= MOTION_LOW) & (motion <= MOTION_HIGH))
    if bad.any():
        i, column = (int(n) for n in np.argwhere(bad)[0])
        raise invalid_field(
            f"motion.frames[{i}].{_column_path(column)}",
            f"{motion[i, column]:g} is outside [{MOTION_LOW[column]:g}, {MOTION_HIGH[column]:g}]",
        )
    return motion


def _column_path(column: int) -> str:
    if column < ARKIT_DIM:
        return f"coefficients[{column}]"
    paths = ("rotation.pitch", "rotation.yaw", "rotation.roll", "translation.x", "translation.y")
    return (*paths, "distance_ratio", "tongue_tip", "tongue_back")[column - ARKIT_DIM]
