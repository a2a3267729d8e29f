"""The motion generator: a flow-matching transformer over windows of canonical motion.

The transformer generates differences: of the mouth from the one that is predicted from speech alone
(`lip_network.py`), of the gaze from its plan, of the head from its last pose. So it learns how this
mouth moves on from what it did, expression, lids and small moves. Of the speech it sees no more
than those lips, loudness and pitch, so that it learns only the manner of the one recorded speaker.

New frames (noise at first) are the tokens. In every layer they attend to each other and to the past
frames, whose keys and values are computed once a window, so that the sampler's steps run on the
new tokens alone. The network predicts the clean frames x1 on the straight path
x_t = (1 - t) noise + t x1 (Lipman et al. 2023); Euler steps follow it from 0 to 1. Classifier-free
guidance (Ho and Salimans 2022) per condition as in VASA-1 (Xu et al. 2024): the rows of a step's
batch lack one condition each *in the new frames*.

Names of parameters and buffers stay as they are: checkpoints hold them.

Needs torch; at run time only the ONNX export of `Sampler` is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.contract.speech_features import SPEECH_DIM
from talkingface.motion_gen.canonical_motion import CANONICAL_DIM, FACE_DIM, GAZE, HEAD, MOUTH
from talkingface.motion_gen.windows import (
    BEHAVIOUR_DIM,
    EMOTION_DIM,
    EXTRA_ROWS,
    GUIDED,
    HISTORY_ROWS,
    PAST,
    ROWS_PER_FRAME,
    SPAN,
)
from talkingface_research.motion_gen.lip_network import (
    MOUTH_DIM,
    SEALS,
    LipRegressor,
    normalised_speech,
    sealed,
)

HEAD_DIM = CANONICAL_DIM - HEAD.start

# The oldest past frame is no token: it only gives the speed of the head in the next one.
VISIBLE_PAST = PAST - 1
PROSODY_ROWS = ROWS_PER_FRAME + EXTRA_ROWS  # whose loudness and pitch a frame sees
STEPS = 2  # Euler steps of the sampler

Conditions = Mapping[str, Tensor]


class Layer(nn.Module):
    """Pre-norm attention and MLP over the new frames of a window that also sees its past.

    Time scales and shifts both norms (adaLN, Peebles and Xie 2023). A learned bias for each
    distance gives the order of frames.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads, self.head_dim = width, heads, width // heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.past_key_value = nn.Linear(width, 2 * width)
        self.bias = nn.Parameter(torch.zeros(heads, SPAN, VISIBLE_PAST + SPAN))
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def split(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, heads, T, head_dim)."""
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, time: Tensor, past: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """
        :param x: (N, SPAN, width)
        :param time: (1 or N, width) embedding of the flow's time
        :param past: keys and values (N, heads, VISIBLE_PAST, head_dim)
        :param mask: (N, 1, 1, VISIBLE_PAST + SPAN) added to the scores
        """
        scale1, shift1, scale2, shift2 = self.modulation(time).chunk(4, dim=-1)
        normed = F.layer_norm(x, (self.width,))
        normed = normed * (1 + scale1[:, None]) + shift1[:, None]
        own_key, own_value = self.key_value(normed).chunk(2, dim=-1)
        key = torch.cat([past[0], self.split(own_key)], dim=2)
        value = torch.cat([past[1], self.split(own_value)], dim=2)
        query = self.split(self.query(normed)) * self.head_dim**-0.5
        weights = (query @ key.transpose(-1, -2) + self.bias + mask).softmax(dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        normed = F.layer_norm(x, (self.width,))
        normed = normed * (1 + scale2[:, None]) + shift2[:, None]
        return x + self.down(F.gelu(self.up(normed)))


class MotionGenerator(nn.Module):
    """Predicts clean new frames from noisy ones, the past and the conditions."""

    mean: Tensor
    scale: Tensor
    head_unit: Tensor

    def __init__(
        self,
        width: int = 192,
        layers: int = 4,
        heads: int = 4,
        lips: Mapping[str, int] | None = None,
    ) -> None:
        """
        :param lips: sizes of `LipRegressor`; None = its own
        """
        super().__init__()
        self.lips = LipRegressor(**(lips or {}))
        self.width = width
        self.size = {"width": width, "layers": layers, "heads": heads, "lips": self.lips.size}
        self.register_buffer("mean", torch.zeros(FACE_DIM))
        self.register_buffer("scale", torch.ones(CANONICAL_DIM))
        unit = torch.tensor([0.1, 0.1, 0.1, 10.0, 10.0, 10.0])  # degrees, widths, log ratio
        self.register_buffer("head_unit", unit, persistent=False)
        audio_dim = MOUTH_DIM + len(SEALS) + PROSODY_ROWS * SPEECH_DIM
        self.past = nn.Linear(CANONICAL_DIM + HEAD_DIM, width)
        self.noisy = nn.Linear(CANONICAL_DIM, width)
        self.audio = nn.Sequential(nn.Linear(audio_dim, width), nn.GELU(), nn.Linear(width, width))
        self.behaviour = nn.Linear(BEHAVIOUR_DIM, width)
        self.emotion = nn.Linear(EMOTION_DIM, width)
        self.place = nn.Linear(HEAD_DIM, width)
        self.absent = nn.Parameter(0.02 * torch.randn(len(GUIDED), width))
        self.position = nn.Parameter(0.02 * torch.randn(SPAN, width))
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, CANONICAL_DIM)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def time_embedding(self, t: Tensor) -> Tensor:
        """(N,) times in [0, 1] to (N, width)."""
        frequency = torch.exp(torch.arange(32, device=t.device) * (-math.log(1e3) / 31)) * 30.0
        angle = t[:, None] * frequency
        embedded: Tensor = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return embedded

    def condition_tokens(
        self, conditions: Conditions, mouth: Tensor, seal: Tensor
    ) -> dict[str, Tensor]:
        """Each condition of T frames as tokens (B, T, width), by name of `GUIDED`.

        :param conditions: `speech` (B, HISTORY_ROWS + 2 T + 1, 4), `behaviour` (B, T, 3),
            `emotion` (B, T, 7)
        :param mouth: (B, T, MOUTH_DIM) and `seal` (B, T, 2) of `LipRegressor`
        """
        speech = normalised_speech(conditions["speech"])
        last = ROWS_PER_FRAME * (mouth.shape[1] - 1) + 1
        prosody = [
            speech[:, i : i + last : ROWS_PER_FRAME]
            for i in range(HISTORY_ROWS, HISTORY_ROWS + PROSODY_ROWS)
        ]
        lips = (mouth - self.lips.mouth_mean) / self.lips.mouth_scale
        unit = conditions["behaviour"].new_tensor([1.0, 0.1, 0.1])
        return {
            "audio": self.audio(torch.cat([lips, seal, *prosody], dim=-1)),
            "behaviour": self.behaviour(conditions["behaviour"] * unit),
            "emotion": self.emotion(conditions["emotion"]),
        }

    def past_tokens(
        self, frames: Tensor, mouth: Tensor, gaze_plan: Tensor, tokens: dict[str, Tensor]
    ) -> Tensor:
        """Tokens (B, T - 1, width) of all but the first of T past frames.

        :param frames: (B, T, CANONICAL_DIM) in their units
        :param mouth: (B, T, MOUTH_DIM) as predicted from speech alone
        :param gaze_plan: (B, T, 2) degrees
        :param tokens: from `condition_tokens` of the same T frames
        """
        head = frames[..., HEAD]
        moved = (head[:, 1:] - head[:, :-1]) / self.scale[HEAD]
        face = (frames[..., :FACE_DIM] - self.face(mouth))[:, 1:] / self.scale[:FACE_DIM]
        gaze = (frames[:, 1:, GAZE] - gaze_plan[:, 1:]) / self.scale[GAZE]
        parts = [face, gaze, head[:, 1:] * self.head_unit, moved.clamp(-5, 5)]
        total: Tensor = self.past(torch.cat(parts, dim=-1))
        for name in GUIDED:
            total = total + tokens[name][:, 1:]
        return total

    def memory(self, past: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of past tokens (B, T, width) in every layer: (B, heads, T, head_dim)."""
        pairs = (layer.past_key_value(past).chunk(2, dim=-1) for layer in self.layers)
        return [
            (layer.split(key), layer.split(value))
            for layer, (key, value) in zip(self.layers, pairs, strict=True)
        ]

    def new_tokens(self, tokens: dict[str, Tensor], dropped: Tensor, last_head: Tensor) -> Tensor:
        """Conditions of new frames, (N, SPAN, width).

        :param tokens: from `condition_tokens` of the new frames
        :param dropped: (N, len(GUIDED)), 1 = this condition is withheld
        :param last_head: (N, HEAD_DIM) head pose in the last past frame
        """
        total = self.position + self.place(last_head * self.head_unit)[:, None]
        for i, name in enumerate(GUIDED):
            drop = dropped[:, i, None, None]
            total = total + tokens[name] * (1 - drop) + self.absent[i] * drop
        return total

    def predict(
        self,
        noisy: Tensor,
        time: Tensor,
        condition: Tensor,
        memory: list[tuple[Tensor, Tensor]],
        valid: Tensor,
    ) -> Tensor:
        """Clean new frames (N, SPAN, CANONICAL_DIM), normalised.

        :param noisy: the same shape, x_t
        :param time: (1 or N, width) from `time_embedding`
        :param condition: from `new_tokens`
        :param memory: keys and values of each layer for the N windows
        :param valid: (N, VISIBLE_PAST), 0 = the frame is before the stream's start or withheld
        """
        x = self.noisy(noisy) + condition
        seen = torch.cat([valid, torch.ones_like(valid[:, :SPAN])], dim=1)
        mask = (1e4 * (seen - 1.0))[:, None, None]
        for layer, past in zip(self.layers, memory, strict=True):
            x = layer(x, time, past, mask)
        clean: Tensor = self.head(F.layer_norm(x, (self.width,)))
        return clean

    def face(self, mouth: Tensor) -> Tensor:
        """The mean face with the predicted mouth (.., MOUTH_DIM): (.., FACE_DIM)."""
        rest = self.mean.expand(*mouth.shape[:-1], FACE_DIM)
        return torch.cat([rest[..., : MOUTH.start], mouth, rest[..., MOUTH.stop :]], dim=-1)

    def reference(self, last_head: Tensor, gaze_plan: Tensor, mouth: Tensor) -> Tensor:
        """What new frames are normalised about, (N, SPAN, CANONICAL_DIM): the predicted mouth, the
        mean of the rest of the face, the planned gaze, and the last pose of the head, so that small
        moves count.

        :param last_head: (N, HEAD_DIM) head pose in the last past frame
        :param gaze_plan: (N, SPAN, 2) degrees
        :param mouth: (N, SPAN, MOUTH_DIM)
        """
        return torch.cat(
            [self.face(mouth), gaze_plan, torch.stack([last_head] * SPAN, dim=1)], dim=-1
        )


def repeat_last(x: Tensor, count: int) -> Tensor:
    """(B, T, n) with its last row repeated `count` times more."""
    return torch.cat([x, *[x[:, -1:]] * count], dim=1)


class Sampler(nn.Module):
    """One window from noise: what is exported. All inputs have a leading batch dimension.

    The network makes SPAN frames at a time. Where there are conditions for fewer, which saves the
    time of waiting for more, the last ones are repeated, and their frames are not returned.
    """

    def __init__(self, generator: MotionGenerator, steps: int = STEPS) -> None:
        super().__init__()
        self.generator = generator
        self.steps = steps
        rows = 1 + len(GUIDED)
        # Row 0 has every condition, row i lacks condition i - 1.
        self.register_buffer("dropped", torch.eye(rows)[:, 1:], persistent=False)

    dropped: Tensor

    def forward(
        self,
        features: Tensor,
        speech: Tensor,
        behaviour: Tensor,
        emotion: Tensor,
        past: Tensor,
        past_valid: Tensor,
        noise: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """
        :param features: (B, HISTORY_ROWS + 2 (PAST + n) + EXTRA_ROWS, 128) rows of the speech
            encoder, n = 1 .. SPAN; in the exported graph WINDOW_ROWS
        :param speech: (B, as many, 4)
        :param behaviour: (B, PAST + n, 3) lid closure 0..1, gaze pitch, yaw in degrees
        :param emotion: (B, PAST + n, 7) weights times strength
        :param past: (B, PAST, CANONICAL_DIM) frames made before, in their units
        :param past_valid: (B, PAST) 0 before the stream's start
        :param noise: (B, SPAN, CANONICAL_DIM) standard normal, times temperature
        :param guidance: (B, 3) guidance scales of `GUIDED`
        :return: (B, n, CANONICAL_DIM) new frames in their units
        """
        net = self.generator
        rows = 1 + len(GUIDED)
        lack = PAST + SPAN - int(behaviour.shape[1])
        features, speech = (
            repeat_last(features, ROWS_PER_FRAME * lack),
            repeat_last(speech, ROWS_PER_FRAME * lack),
        )
        behaviour, emotion = repeat_last(behaviour, lack), repeat_last(emotion, lack)
        mouth, seal = net.lips(features, speech)
        tokens = net.condition_tokens(
            {"speech": speech, "behaviour": behaviour, "emotion": emotion}, mouth, seal
        )
        old = {name: token[:, :PAST] for name, token in tokens.items()}
        new = {name: token[:, PAST:] for name, token in tokens.items()}
        last_head = past[:, -1, HEAD]
        gaze_plan = behaviour[..., 1:]

        def repeat(x: Tensor) -> Tensor:
            return torch.stack([x] * rows, dim=1).flatten(0, 1)

        memory = net.memory(net.past_tokens(past, mouth[:, :PAST], gaze_plan[:, :PAST], old))
        memory = [(repeat(key), repeat(value)) for key, value in memory]
        valid = repeat(past_valid[:, 1:])
        condition = net.new_tokens(
            {name: repeat(token) for name, token in new.items()},
            self.dropped[None].expand(past.shape[0], -1, -1).flatten(0, 1),
            repeat(last_head),
        )
        x = noise
        for step in range(self.steps):
            t = step / self.steps
            time = net.time_embedding(torch.full((1,), t, device=x.device))
            clean = net.predict(repeat(x), time, condition, memory, valid)
            clean = clean.unflatten(0, (-1, rows))
            full = clean[:, 0]
            guided = full
            for i in range(len(GUIDED)):
                guided = guided + guidance[:, i, None, None] * (full - clean[:, i + 1])
            x = x + (guided - x) / (self.steps - step)
        made = x * net.scale + net.reference(last_head, gaze_plan[:, PAST:], mouth[:, PAST:])
        # Lips that a consonant closes are closed, whatever else the face does.
        lips = sealed(made[..., MOUTH], seal[:, PAST:])
        made = torch.cat([made[..., : MOUTH.start], lips, made[..., MOUTH.stop :]], dim=-1)
        return made[:, : SPAN - lack]


def save(generator: MotionGenerator, path: str, **extra: object) -> None:
    """Write a checkpoint that `load` reads; half precision is all that the weights need."""
    weights = {name: value.half() for name, value in generator.state_dict().items()}
    torch.save({"size": generator.size, "weights": weights, **extra}, path)


def load(path: str) -> MotionGenerator:
    """The generator of a checkpoint, in evaluation mode, on the CPU."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    generator = MotionGenerator(**checkpoint["size"])
    generator.load_state_dict(checkpoint["weights"])
    result: MotionGenerator = generator.eval()
    return result
