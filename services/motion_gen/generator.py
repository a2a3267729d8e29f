"""The motion generator: a flow-matching transformer over windows of performance frames.

Past frames (already made) and new frames (noise at first) are tokens of one transformer. Past
tokens see only each other, so their keys and values are computed once a window; the sampler's
steps then run on the new tokens alone. The network predicts the clean frames x1 on the straight
path x_t = (1 - t) noise + t x1 (Lipman et al. 2023); Euler steps follow it from 0 to 1.
Classifier-free guidance (Ho and Salimans 2022) per condition as in VASA-1 (Xu et al. 2024): the
rows of a step's batch lack one condition each *in the new frames*.

Needs torch; at run time only the ONNX export of `Sampler` is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.motion_gen.contract import (
    BEHAVIOUR_DIM,
    EMOTION_DIM,
    EXTRA_ROWS,
    FEATURE_DIM,
    GUIDED,
    HOP,
    PAST,
    ROWS_PER_FRAME,
    SPEECH_DIM,
    STYLES,
    WINDOW,
)
from talkingface.motion_gen.performance import FACE_DIM, PERFORMANCE_DIM, ROTATION

HEAD = slice(ROTATION.start, PERFORMANCE_DIM)
HEAD_DIM = PERFORMANCE_DIM - ROTATION.start

ROWS_HEARD = ROWS_PER_FRAME + EXTRA_ROWS
STEPS = 4

Conditions = Mapping[str, Tensor]


def frame_rows(rows: Tensor, frames: int) -> Tensor:
    """Rows at 50 Hz to what each frame hears: (B, 2 frames + 1, D) -> (B, frames, 3 D)."""
    parts = [
        rows[:, i : i + ROWS_PER_FRAME * (frames - 1) + 1 : ROWS_PER_FRAME]
        for i in range(ROWS_HEARD)
    ]
    return torch.cat(parts, dim=-1)


class Layer(nn.Module):
    """Pre-norm attention and MLP; time scales and shifts both norms (adaLN, Peebles and Xie)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads, self.head_dim = width, heads, width // heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def forward(
        self, x: Tensor, time: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """
        :param x: (B, T, width)
        :param time: (1 or B, width) embedding of the flow's time
        :param mask: (B, 1, T or 1, keys) added to the scores
        :param past: keys and values (B, heads, PAST, d) that x sees besides itself
        :return: the new x and x's own keys and values
        """
        scale1, shift1, scale2, shift2 = self.modulation(time).chunk(4, dim=-1)
        normed = F.layer_norm(x, (self.width,))
        normed = normed * (1 + scale1[:, None]) + shift1[:, None]
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, dim=-1))
        own = key, value
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        query = self._split(self.query(normed)) * self.head_dim**-0.5
        weights = (query @ key.transpose(-1, -2) + mask).softmax(dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        normed = F.layer_norm(x, (self.width,))
        normed = normed * (1 + scale2[:, None]) + shift2[:, None]
        return x + self.down(F.gelu(self.up(normed))), own


class MotionGenerator(nn.Module):
    """Predicts clean new frames from noisy ones, the past and the conditions."""

    mean: Tensor
    scale: Tensor
    place_unit: Tensor

    def __init__(self, width: int = 256, layers: int = 6, heads: int = 4) -> None:
        super().__init__()
        self.size = {"width": width, "layers": layers, "heads": heads}
        self.register_buffer("mean", torch.zeros(FACE_DIM))
        self.register_buffer("scale", torch.ones(PERFORMANCE_DIM))
        unit = torch.tensor([0.1, 0.1, 0.1, 10.0, 10.0, 10.0])  # degrees, widths, log ratio
        self.register_buffer("place_unit", unit, persistent=False)
        heard = ROWS_HEARD * (FEATURE_DIM + SPEECH_DIM)
        self.past = nn.Linear(PERFORMANCE_DIM, width)
        self.pose = nn.Linear(HEAD_DIM, width)
        self.noisy = nn.Linear(PERFORMANCE_DIM, width)
        self.audio = nn.Sequential(nn.Linear(heard, width), nn.GELU(), nn.Linear(width, width))
        self.behaviour = nn.Linear(BEHAVIOUR_DIM, width)
        self.emotion = nn.Linear(EMOTION_DIM, width)
        self.style = nn.Linear(len(STYLES), width, bias=False)
        self.absent = nn.Parameter(0.02 * torch.randn(len(GUIDED), width))
        self.position = nn.Parameter(0.02 * torch.randn(WINDOW, width))
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, PERFORMANCE_DIM)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def time_embedding(self, t: Tensor) -> Tensor:
        """(B,) times in [0, 1] to (B, width)."""
        frequency = torch.exp(torch.arange(32, device=t.device) * (-math.log(1e3) / 31)) * 30.0
        angle = t[:, None] * frequency
        embedded: Tensor = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return embedded

    def condition_tokens(self, conditions: Conditions) -> dict[str, Tensor]:
        """Each condition as tokens (B, WINDOW, width), by name of `GUIDED`; and, as "whole",
        one token (B, 1, width) of what holds for the window: style and the head's last place.

        :param conditions: `features` (B, WINDOW_ROWS, 128), `speech` (B, WINDOW_ROWS, 4),
            `behaviour` (B, WINDOW, 3), `emotion` (B, WINDOW, 7), `style` (B, 2),
            `past` (B, PAST, PERFORMANCE_DIM)
        """
        activity, energy, pitch, voicing = conditions["speech"].unbind(-1)
        speech = torch.stack(
            [activity, (energy.clamp(-90, 0) + 45) / 20, (pitch - 7.0) * (pitch > 1), voicing],
            dim=-1,
        )
        heard = frame_rows(torch.cat([conditions["features"], speech], dim=-1), WINDOW)
        unit = conditions["behaviour"].new_tensor([1.0, 0.1, 0.1])
        place = conditions["past"][:, -1, HEAD] * self.place_unit
        return {
            "audio": self.audio(heard),
            "behaviour": self.behaviour(conditions["behaviour"] * unit),
            "emotion": self.emotion(conditions["emotion"]),
            "whole": (self.style(conditions["style"]) + self.pose(place))[:, None],
        }

    def encode_past(
        self, past: Tensor, valid: Tensor, tokens: dict[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the past frames in every layer.

        :param past: (B, PAST, PERFORMANCE_DIM), normalised
        :param valid: (B, PAST), 0 = the frame is before the stream's start or withheld
        """
        x = self.past(past) + self.position[:PAST] + tokens["whole"]
        for name in GUIDED:
            x = x + tokens[name][:, :PAST]
        mask = (1e4 * (valid - 1.0))[:, None, None]
        time = self.time_embedding(torch.ones(1, device=past.device))
        memory = []
        for layer in self.layers:
            x, own = layer(x, time, mask, None)
            memory.append(own)
        return memory

    def new_tokens(self, tokens: dict[str, Tensor], dropped: Tensor) -> Tensor:
        """Conditions of the new frames, (B, HOP, width).

        :param dropped: (B, len(GUIDED)), 1 = this condition is withheld
        """
        total = self.position[PAST:] + tokens["whole"]
        for i, name in enumerate(GUIDED):
            gone = dropped[:, i, None, None]
            total = total + tokens[name][:, PAST:] * (1 - gone) + self.absent[i] * gone
        return total

    def predict(
        self,
        noisy: Tensor,
        time: Tensor,
        condition: Tensor,
        memory: list[tuple[Tensor, Tensor]],
        valid: Tensor,
    ) -> Tensor:
        """Clean new frames (B, HOP, PERFORMANCE_DIM), normalised.

        :param noisy: the same shape, x_t
        :param time: (1 or B, width) from `time_embedding`
        :param condition: from `new_tokens`
        :param memory, valid: from `encode_past` (the batch of `noisy`)
        """
        x = self.noisy(noisy) + condition
        seen = torch.cat([valid, torch.ones_like(valid[:, :HOP])], dim=1)
        mask = (1e4 * (seen - 1.0))[:, None, None]
        for layer, past in zip(self.layers, memory, strict=True):
            x, _ = layer(x, time, mask, past)
        clean: Tensor = self.head(F.layer_norm(x, (self.size["width"],)))
        return clean

    def reference(self, past: Tensor, behaviour: Tensor) -> Tensor:
        """What frames are normalised about, (B, T, PERFORMANCE_DIM): for the face its mean, for
        the gaze the plan, for the head its last place, so that small moves count.

        :param past: (B, PAST, PERFORMANCE_DIM)
        :param behaviour: (B, T, 3) of the T frames in question
        """
        frames = behaviour.shape[1]
        face = self.mean.expand(past.shape[0], frames, FACE_DIM)
        head = past[:, -1:, HEAD].expand(-1, frames, -1)
        return torch.cat([face, behaviour[:, :, 1:], head], dim=-1)


class Sampler(nn.Module):
    """One window from noise: what is exported. All inputs have a leading batch dimension."""

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
        style: Tensor,
        past: Tensor,
        past_valid: Tensor,
        noise: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """
        :param features: (B, WINDOW_ROWS, 128) rows of the speech encoder
        :param speech: (B, WINDOW_ROWS, 4)
        :param behaviour: (B, WINDOW, 3) lid closure 0..1, gaze pitch, yaw in degrees
        :param emotion: (B, WINDOW, 7) weights times strength
        :param style: (B, 2) weights of `STYLES`
        :param past: (B, PAST, PERFORMANCE_DIM) frames made before, in their units
        :param past_valid: (B, PAST) 0 before the stream's start
        :param noise: (B, HOP, PERFORMANCE_DIM) standard normal, times temperature
        :param guidance: (B, 3) guidance scales of `GUIDED`
        :return: (B, HOP, PERFORMANCE_DIM) new frames in their units
        """
        net = self.generator
        rows = 1 + len(GUIDED)
        tokens = net.condition_tokens(
            {
                "features": features,
                "speech": speech,
                "behaviour": behaviour,
                "emotion": emotion,
                "style": style,
                "past": past,
            }
        )
        before = (past - net.reference(past, behaviour[:, :PAST])) / net.scale
        memory = net.encode_past(before, past_valid, tokens)

        def repeat(x: Tensor) -> Tensor:
            return torch.stack([x] * rows, dim=1).flatten(0, 1)

        memory = [(repeat(key), repeat(value)) for key, value in memory]
        valid = repeat(past_valid)
        condition = net.new_tokens(
            {name: repeat(token) for name, token in tokens.items()},
            self.dropped[None].expand(past.shape[0], -1, -1).flatten(0, 1),
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
        return x * net.scale + net.reference(past, behaviour[:, PAST:])


def save(generator: MotionGenerator, path: str, **extra: object) -> None:
    """Write a checkpoint that `load` reads; half precision is all that the weights need."""
    weights = {name: value.half() for name, value in generator.state_dict().items()}
    torch.save({"size": generator.size, "weights": weights, **extra}, path)


def load(path: str) -> MotionGenerator:
    """The generator of a checkpoint, in evaluation mode, on the CPU."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    generator = MotionGenerator(**checkpoint["size"])
    generator.load_state_dict(checkpoint["weights"])
    return generator.eval()
