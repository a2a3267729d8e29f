"""One motion stream without any I/O: features and controls in, motion frames out.

    session = MotionSession(seed=7)
    session.push(features, speech)                       # any number of rows
    while (request := session.next_request()) is not None:
        motion = session.accept(infer("motion_generator", request))
    session.end()                                        # then request the remaining windows

Windows of `HOP` new frames are generated one after the other, each conditioned on the `PAST`
frames before it, so that they join without a seam. The same seed, controls and rows give the same
frames bit for bit, however the rows are chunked: windows start at fixed positions of the stream,
and their noise comes from a counter-based generator keyed by seed and window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from talkingface.contract.arrays import Float32Array
from talkingface.contract.controls import SEED_LIMIT, Controls, ControlTrack
from talkingface.contract.motion import TONGUE_BACK, TONGUE_TIP
from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.speech_features import FEATURE_DIM, SPEECH_DIM
from talkingface.motion_gen.behaviour import BehaviourPlanner
from talkingface.motion_gen.canonical_motion import CANONICAL_DIM, FACE_DIM, HEAD, MOUTH, compose
from talkingface.motion_gen.easing import ControlEasing, spring
from talkingface.motion_gen.tongue import TongueTracker
from talkingface.motion_gen.windows import (
    BEHAVIOUR_DIM,
    EMOTION_DIM,
    EXTRA_ROWS,
    GUIDED,
    HISTORY_ROWS,
    HOP,
    PAST,
    ROWS_PER_FRAME,
    SPAN,
    WINDOW_ROWS,
)
from talkingface.serving import checkpoint

# Factor on the noise per channel, relative to training, by eye: the mouth follows the speech, all
# else may vary.
TEMPERATURE = np.ones(CANONICAL_DIM, np.float32)
TEMPERATURE[MOUTH] = 0.1

# The generator may let the head drift over minutes, so its head pose decays to the resting pose:
# time constant in seconds, by eye, and the share of the pose that is lost in each frame of a hop.
HEAD_DECAY_SECONDS = 5.0
_HEAD_DECAY = (1 - np.exp(-np.arange(1, HOP + 1) / (HEAD_DECAY_SECONDS * MOTION_FPS)))[
    :, None
].astype(np.float32)

# 1 / s of the spring between planned and shown head pose, by eye: it acts as the head's mass, which
# delays the motion by 0.05 s and removes jitter.
NECK_RATE = 40.0

HOP_ROWS = ROWS_PER_FRAME * HOP
LEAD_ROWS = HISTORY_ROWS + ROWS_PER_FRAME * PAST  # rows of a window before its new frames
# Rows of a window: for each new frame the last of those that it may see.
LAST_SEEN = slice(LEAD_ROWS + EXTRA_ROWS, LEAD_ROWS + EXTRA_ROWS + HOP_ROWS)


class MotionSession:
    """The state of one stream, about 37 kB. Not thread-safe."""

    def __init__(
        self, seed: int = 0, controls: Controls | None = None, start_frame: int = 0
    ) -> None:
        """
        :param seed: 0 .. 2**63 - 1; another seed gives another motion for the same speech
        :param controls: controls from the first frame on; None = all defaults
        :param start_frame: index of the first frame; its rows are the first to be pushed
        :raises ValueError: seed out of range
        """
        if not 0 <= seed < SEED_LIMIT:
            raise ValueError(f"seed {seed} is outside 0..2**63 - 1")
        self._seed = seed
        self._start_frame = start_frame
        self._controls = ControlTrack(controls or Controls())
        self._easing = ControlEasing(self._controls.at(start_frame))
        self._planner = BehaviourPlanner(seed)
        self._tongue = TongueTracker()
        self._philox = np.random.Philox(key=[seed, start_frame])
        self._philox_state = self._philox.state
        self._window = 0
        self._rows = 0
        # Rows from the first of the next window on.
        self._features = np.zeros((LEAD_ROWS, FEATURE_DIM), np.float32)
        self._speech = np.zeros((LEAD_ROWS, SPEECH_DIM), np.float32)
        self._past = np.zeros((PAST, CANONICAL_DIM), np.float32)
        self._past_valid = np.zeros(PAST, np.float32)
        self._behaviour = np.zeros((PAST, BEHAVIOUR_DIM), np.float32)
        self._emotion = np.zeros((PAST, EMOTION_DIM), np.float32)
        self._neck = np.zeros(CANONICAL_DIM - HEAD.start)  # shown head pose, and its velocity
        self._neck_velocity = np.zeros_like(self._neck)
        self._pending = False
        self._ended = False

    @property
    def rows(self) -> int:
        """Index of the row to be pushed next."""
        return ROWS_PER_FRAME * self._start_frame + self._rows

    @property
    def frames(self) -> int:
        """Index of the frame to be returned next."""
        generated = HOP * self._window
        if self._ended:
            generated = min(generated, self._total_frames)
        return self._start_frame + generated

    @property
    def _next_requested(self) -> int:
        """Index of the first frame that has not been requested yet."""
        return self._start_frame + HOP * (self._window + self._pending)

    @property
    def _total_frames(self) -> int:
        return -(-self._rows // ROWS_PER_FRAME)

    def push(self, features: Float32Array, speech: Float32Array) -> None:
        """Append any number of rows of the speech encoder.

        :param features: (n, 128) float32
        :param speech: (n, 4) float32: voice activity, energy dBFS, log2 F0, voicing
        :raises ValueError: other shapes, or values that are not finite; the stream is unchanged
        :raises RuntimeError: after `end`
        """
        if self._ended:
            raise RuntimeError("push after end")
        rows = len(features)
        if features.shape != (rows, FEATURE_DIM) or speech.shape != (rows, SPEECH_DIM):
            raise ValueError(
                f"rows must be (n, {FEATURE_DIM}) and (n, {SPEECH_DIM}), "
                f"got {features.shape} and {speech.shape}"
            )
        if not (np.isfinite(features).all() and np.isfinite(speech).all()):
            raise ValueError("rows contain values that are not finite")
        self._features = np.concatenate([self._features, features.astype(np.float32)])
        self._speech = np.concatenate([self._speech, speech.astype(np.float32)])
        self._rows += rows

    def end(self) -> None:
        """Declare that no more rows will come, so that the remaining frames can be requested.

        Idempotent.
        """
        self._ended = True

    def set_controls(self, effective_frame: int = 0, **changes: Any) -> int:
        """Change controls from a frame on; changes of later frames stay.

        :param effective_frame: index of the first frame with the changes
        :param changes: values of fields of `Controls`
        :return: the frame at which they take effect: `effective_frame`, or the next frame not yet
            requested if that is later
        :raises ControlError: a value out of range
        """
        Controls(**changes)
        frame = max(effective_frame, self._next_requested)
        self._controls.update(frame, changes)
        return frame

    @property
    def ready(self) -> bool:
        """Whether `next_request` has a request without more rows or an output coming first."""
        rows = self._rows - HOP_ROWS * self._window
        enough = rows >= HOP_ROWS + EXTRA_ROWS or (self._ended and rows > 0)
        return enough and not self._pending

    def next_request(self) -> dict[str, Float32Array] | None:
        """Return the model's inputs for the next window, without batch dimension.

        :return: None while the session is not `ready`
        """
        if not self.ready:
            return None
        features, speech = self._features[:WINDOW_ROWS], self._speech[:WINDOW_ROWS]
        missing = WINDOW_ROWS - len(features)
        if missing:
            features = np.concatenate([features, np.repeat(features[-1:], missing, axis=0)])
            speech = np.concatenate([speech, np.repeat(speech[-1:], missing, axis=0)])
        controls = [self._controls.at(self._next_requested + i) for i in range(HOP)]
        self._eased = self._easing.step(controls)
        new_rows = speech[LEAD_ROWS : LEAD_ROWS + HOP_ROWS].reshape(HOP, ROWS_PER_FRAME, SPEECH_DIM)
        self._plan = [
            self._planner.step(rows, emotion, entry.gaze, entry.blink_rate, float(expressivity))
            for rows, emotion, entry, expressivity in zip(
                new_rows, self._eased.emotion, controls, self._eased.expressivity, strict=True
            )
        ]
        self._tongue_motion = self._tongue.step(features[LAST_SEEN], speech[LAST_SEEN])
        eyes = np.array([plan.eyes for plan in self._plan], np.float32)
        emotion = np.array([plan.emotion for plan in self._plan])
        self._behaviour = np.concatenate([self._behaviour, eyes])
        self._emotion = np.concatenate([self._emotion, emotion])
        self._pending = True
        return {
            "features": features,
            "speech": speech,
            "behaviour": self._behaviour,
            "emotion": self._emotion,
            "past": self._past,
            "past_valid": self._past_valid,
            "noise": self._noise(),
            "guidance": np.array(
                [getattr(controls[0], f"{name}_guidance") for name in GUIDED], np.float32
            ),
        }

    def accept(self, outputs: Mapping[str, Float32Array]) -> Float32Array:
        """Accept the model's outputs for the last request.

        :param outputs: `frames` (HOP, CANONICAL_DIM)
        :return: (n, MOTION_DIM) motion frames; n = HOP except at the end of the stream
        :raises RuntimeError: no request is pending
        :raises ValueError: outputs of another shape, or not finite
        """
        if not self._pending:
            raise RuntimeError("accept without a request")
        generated = np.asarray(outputs["frames"], np.float32)
        if generated.shape != (HOP, CANONICAL_DIM) or not np.isfinite(generated).all():
            raise ValueError(
                f"the motion generator returned {generated.shape} or values that are not finite"
            )
        generated = generated.copy()
        generated[:, HEAD] -= self._past[-1, HEAD] * _HEAD_DECAY
        eased = self._eased
        shown = generated.copy()
        for row, plan in zip(shown, self._plan, strict=True):
            target = row[HEAD] + np.concatenate([plan.rotation, plan.shift])
            self._neck, self._neck_velocity = spring(
                self._neck, self._neck_velocity, target, NECK_RATE
            )
            row[HEAD] = self._neck
            row[:FACE_DIM] = plan.apply_to(row[:FACE_DIM])
        motion = compose(
            shown,
            eased.pose_offset,
            eased.head_scale,
            eased.distance,
            eased.mouth_scale,
            np.array([plan.expression for plan in self._plan]),
        )
        motion[:, TONGUE_TIP : TONGUE_BACK + 1] = self._tongue_motion
        before = self.frames
        self._window += 1
        self._past = np.concatenate([self._past, generated])[HOP:]
        self._past_valid = np.concatenate([self._past_valid, np.ones(HOP, np.float32)])[HOP:]
        self._behaviour = self._behaviour[HOP:]
        self._emotion = self._emotion[HOP:]
        self._features = self._features[HOP_ROWS:]
        self._speech = self._speech[HOP_ROWS:]
        self._pending = False
        return motion[: self.frames - before]

    def snapshot(self) -> bytes:
        """Return the whole state for `restore`, about 37 kB.

        :raises RuntimeError: a request is pending
        """
        if self._pending:
            raise RuntimeError("snapshot while a request is pending")
        values = {
            "seed": self._seed,
            "start_frame": self._start_frame,
            "window": self._window,
            "rows": self._rows,
            "ended": self._ended,
            "planner": self._planner.state(),
            "tongue": self._tongue.state(),
            "controls": self._controls.state(),
        }
        arrays = {name: getattr(self, f"_{name}") for name in _SNAPSHOT_ARRAYS}
        easing = {"easing_value": self._easing.value, "easing_velocity": self._easing.velocity}
        return checkpoint.pack(values, {**arrays, **easing})

    @classmethod
    def restore(cls, data: bytes) -> MotionSession:
        """Create the session that `snapshot` described; it continues bit for bit.

        :raises ServiceError: CHECKPOINT_MISMATCH
        """
        values, arrays = checkpoint.unpack(data)
        try:
            session = cls(values["seed"], start_frame=int(values["start_frame"]))
            session._window = int(values["window"])
            session._rows = int(values["rows"])
            session._ended = bool(values["ended"])
            session._planner.load_state(values["planner"])
            session._tongue.load_state(values["tongue"])
            session._controls.load_state(values["controls"])
            easing = session._easing
            easing.value = checkpoint.like(arrays["easing_value"], easing.value)
            easing.velocity = checkpoint.like(arrays["easing_velocity"], easing.velocity)
            for name in _SNAPSHOT_ARRAYS:
                fresh = getattr(session, f"_{name}")
                setattr(session, f"_{name}", checkpoint.like(arrays[name], fresh))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise checkpoint.mismatch(repr(error)) from None
        return session

    def _noise(self) -> Float32Array:
        # The window is the counter's second word, which puts windows 2**64 draws apart. The
        # generator is set to it instead of made anew, which would take ten times as long.
        self._philox_state["state"]["counter"][1] = self._window
        self._philox.state = self._philox_state
        generator = np.random.Generator(self._philox)
        return generator.standard_normal((SPAN, CANONICAL_DIM), dtype=np.float32) * TEMPERATURE


_SNAPSHOT_ARRAYS = (
    "features", "speech", "past", "past_valid", "behaviour", "emotion", "neck",
    "neck_velocity",
)  # fmt: skip
