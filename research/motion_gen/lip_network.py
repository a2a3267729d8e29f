"""The mouth as the voice alone tells it: small regressors that know no past.

What generalises from one recorded man to any voice is little, so two unlike votes are averaged: a
ridge regression and a narrow network with dropout, both on a quarter of a second of speech
features. They tell *components* of the lips' displacement (`training/lip_shapes.py`): when which
shape, in the size that one quiet man gives it, and smaller still, as a mean is. A fixed linear map,
`style`, then brings them to the size and to the mixture that lively speakers' lips have (width
against rounding, corners, upper lip), and a tiny network gives the bounded coefficients of the face
model that reproduce such a displacement (an amortised least-squares fit). Where nobody speaks, the
lips are at rest whatever the rows say.

Two *seals* tell how surely the lips are held shut (/p b m/) or the lower lip is held at the teeth
(/f v/). A mean of possible mouths is never quite shut, so the seals, taught by phone times in many
voices, close it. The motion generator then models the mouth about this one (`network.py`).

Needs torch; at run time it is part of the generator's ONNX graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from talkingface.contract.speech_features import (
    ARTICULATION_COLUMNS,
    EMBEDDING_COLUMNS,
    FEATURE_DIM,
    VOICE_ACTIVITY,
)
from talkingface.motion_gen.canonical_motion import FACE_COLUMNS, FACE_INDEX, FACE_NAMES, MOUTH
from talkingface.motion_gen.mouth_shapes import LIP_SHAPES, SHAPE_COUNT, SHAPE_LIMITS
from talkingface.motion_gen.windows import EXTRA_ROWS, HISTORY_ROWS, RECEPTIVE_ROWS, ROWS_PER_FRAME

MOUTH_NAMES = FACE_NAMES[MOUTH]
MOUTH_DIM = len(MOUTH_NAMES)
SEALS = ("closure", "labiodental")
# Voice activity, energy and voicing; pitch says more of who speaks than of what.
VOICE_DIM = FEATURE_DIM + 3
# Phone posteriors say what the articulation says, but fit one man's lips to one man's voice.
MOUTH_COLUMNS = slice(ARTICULATION_COLUMNS.start, VOICE_DIM)
VOTES = 2  # networks whose mean counts: what only one of them has learnt weighs less
COMPONENTS = 8  # of the lips' displacement
DROPOUT = 0.3
EMBEDDING_NOISE = 0.3  # standard deviation in training, half as much again from row to row

_JAW, _CLOSE, _ROLL, _UPPER_LEFT, _UPPER_RIGHT = (
    FACE_INDEX[name] - MOUTH.start
    for name in ("jawOpen", "mouthClose", "mouthRollLower", "mouthUpperUpLeft", "mouthUpperUpRight")
)
# What parts the lips beside the jaw; the upper lip may stay up while the lower one bites.
_OPENERS = torch.tensor(
    [
        name.startswith(("mouthFunnel", "mouthShrugUpper", "mouthUpperUp", "mouthLowerDown"))
        for name in MOUTH_NAMES
    ]
).float()
SHUT_JAW, BITE_JAW, BITE_CLOSE, BITE_ROLL, BITE_UPPER = 0.6, 0.5, 0.6, 0.45, 0.12


def frame_rows(rows: Tensor, frames: int) -> Tensor:
    """Rows at 50 Hz to what each frame hears: (B, R, D) -> (B, frames, RECEPTIVE_ROWS D), where
    R = HISTORY_ROWS + 2 frames + EXTRA_ROWS."""
    last = ROWS_PER_FRAME * (frames - 1) + 1
    return torch.cat(
        [rows[:, i : i + last : ROWS_PER_FRAME] for i in range(RECEPTIVE_ROWS)], dim=-1
    )


def rows_to_frames(rows: int) -> int:
    """How many frames so many rows make, the history before the first included."""
    return (rows - HISTORY_ROWS - EXTRA_ROWS) // ROWS_PER_FRAME


def comparable(speech: Tensor) -> Tensor:
    """Speech rows (.., 4) with each column of about unit size."""
    activity, energy, pitch, voicing = speech.unbind(-1)
    return torch.stack(
        [activity, (energy.clamp(-90, 0) + 45) / 20, (pitch - 7.0) * (pitch > 1), voicing], dim=-1
    )


def sealed(mouth: Tensor, seal: Tensor) -> Tensor:
    """A mouth drawn towards closed lips, or the lower lip at the upper teeth.

    :param mouth: (.., MOUTH_DIM) coefficients
    :param seal: (.., 2) how far, 0..1, by `SEALS`
    """
    openers = _OPENERS.to(mouth.device)
    jaw = mouth[..., _JAW].clamp(min=0)
    shut, bite = mouth * (1 - openers), mouth * (1 - openers)
    columns = torch.arange(MOUTH_DIM, device=mouth.device)

    def put(shape: Tensor, column: int, value: Tensor) -> Tensor:
        return torch.where(columns == column, value[..., None], shape)

    shut = put(put(shut, _JAW, SHUT_JAW * jaw), _CLOSE, SHUT_JAW * jaw)
    bite = put(put(bite, _JAW, BITE_JAW * jaw), _CLOSE, BITE_CLOSE * BITE_JAW * jaw)
    bite = put(bite, _ROLL, torch.full_like(jaw, BITE_ROLL))
    for column in (_UPPER_LEFT, _UPPER_RIGHT):
        bite = put(bite, column, torch.full_like(jaw, BITE_UPPER))
    closure, teeth = seal[..., :1], seal[..., 1:]
    bitten = mouth + teeth * (bite - mouth)
    return bitten + closure * (shut - bitten)


class MouthFit(nn.Module):
    """Coefficients that reproduce a displacement of the lips, within their limits.

    It is taught to minimise the distance of the landmarks and a small cost of each coefficient
    (`training/train.py`), so one small network stands for a bounded least-squares fit a frame.
    """

    limit: Tensor
    unit: Tensor

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.register_buffer("limit", torch.tensor(list(SHAPE_LIMITS.values())), persistent=False)
        self.register_buffer("unit", torch.ones(COMPONENTS))
        # Without biases: lips at rest have no shape, whatever the weights.
        self.network = nn.Sequential(
            nn.Linear(COMPONENTS, width, bias=False),
            nn.GELU(),
            nn.Linear(width, width, bias=False),
            nn.GELU(),
            nn.Linear(width, SHAPE_COUNT, bias=False),
        )

    def unbounded(self, components: Tensor) -> Tensor:
        """Shapes (.., SHAPE_COUNT) of components (.., COMPONENTS), before their limits."""
        shapes: Tensor = self.network(components / self.unit)
        return shapes

    def forward(self, components: Tensor) -> Tensor:
        """Shapes (.., SHAPE_COUNT) in [0, `SHAPE_LIMITS`] of components in face widths."""
        return torch.minimum(self.unbounded(components).clamp(min=0.0), self.limit)


class LipRegressor(nn.Module):
    """Speech rows to the expected mouth and its seals, each frame by itself."""

    mean: Tensor
    scale: Tensor
    deviation: Tensor
    told_mean: Tensor
    style: Tensor
    lively_mean: Tensor
    mouth_mean: Tensor
    mouth_scale: Tensor
    firmness: Tensor
    spread: Tensor
    nearness: Tensor

    def __init__(self, width: int = 160, narrow: int = 80) -> None:
        super().__init__()
        self.size = {"width": width, "narrow": narrow}
        self.register_buffer("mean", torch.zeros(VOICE_DIM))
        self.register_buffer("scale", torch.ones(VOICE_DIM))
        # Of the recorded man's components, in face widths: the votes tell them in units of it.
        self.register_buffer("deviation", torch.ones(COMPONENTS))
        # Their mean where a voice is heard, the map to lively speakers' size, and those' mean.
        self.register_buffer("told_mean", torch.zeros(COMPONENTS))
        self.register_buffer("style", torch.eye(COMPONENTS))
        self.register_buffer("lively_mean", torch.zeros(COMPONENTS))
        self.register_buffer("mouth_mean", torch.zeros(MOUTH_DIM))
        self.register_buffer("mouth_scale", torch.ones(MOUTH_DIM))
        # Slope and middle of the ramp from a seal's logit to how far it draws.
        self.register_buffer("firmness", torch.tensor([[0.7] * len(SEALS), [0.95] * len(SEALS)]))
        # (SHAPE_COUNT, MOUTH_DIM): shapes to coefficients.
        spread = torch.from_numpy(LIP_SHAPES[:, FACE_COLUMNS[MOUTH]])
        self.register_buffer("spread", spread, persistent=False)
        # Voice that a frame hears a moment before or after counts less, so that lips come to rest.
        self.register_buffer("nearness", torch.linspace(0.4, 1.6, RECEPTIVE_ROWS), persistent=False)

        def network(columns: int, out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Dropout(DROPOUT),
                nn.Linear(RECEPTIVE_ROWS * columns, width),
                nn.GELU(),
                nn.Dropout(DROPOUT),
                nn.Linear(width, narrow),
                nn.GELU(),
                nn.Linear(narrow, out),
            )

        columns = MOUTH_COLUMNS.stop - MOUTH_COLUMNS.start
        self.ridge = nn.Linear(RECEPTIVE_ROWS * columns, COMPONENTS)
        self.shapes = network(columns, COMPONENTS)
        self.seals = nn.ModuleList(network(VOICE_DIM, len(SEALS)) for _ in range(VOTES))
        self.fit = MouthFit()

    def heard(self, features: Tensor, speech: Tensor) -> Tensor:
        """Normalised rows (B, R, VOICE_DIM) of features (B, R, 128) and speech (B, R, 4)."""
        activity, energy, _, voicing = comparable(speech).unbind(-1)
        rows = torch.cat([features, torch.stack([activity, energy, voicing], -1)], -1)
        return (rows - self.mean) / self.scale

    def votes(self, features: Tensor, speech: Tensor) -> Tensor:
        """What each of the two regressors tells of the components, (2, B, T, COMPONENTS) in units
        of `deviation`."""
        rows = self.heard(features, speech)
        known = (self.spoilt(rows) if self.training else rows)[..., MOUTH_COLUMNS]
        told = frame_rows(known, rows_to_frames(features.shape[1]))
        return torch.stack([self.ridge(told), self.shapes(told)])

    def seal_logits(self, features: Tensor, speech: Tensor) -> Tensor:
        """Each vote's logits of the seals: (VOTES, B, T, 2)."""
        heard = frame_rows(self.heard(features, speech), rows_to_frames(features.shape[1]))
        return torch.stack([seal(heard) for seal in self.seals])

    def presence(self, speech: Tensor) -> Tensor:
        """How much a voice is there at each frame, 0..1: (B, R, 4) to (B, T, 1)."""
        activity = frame_rows(speech[..., VOICE_ACTIVITY, None], rows_to_frames(speech.shape[1]))
        return (activity * self.nearness).amax(-1, keepdim=True).clamp(0, 1)

    @staticmethod
    def spoilt(rows: Tensor) -> Tensor:
        """Rows whose embedding cannot be trusted too much."""
        where = torch.zeros(VOICE_DIM, device=rows.device)
        where[EMBEDDING_COLUMNS] = EMBEDDING_NOISE
        voice = torch.randn(len(rows), 1, VOICE_DIM, device=rows.device)
        return rows + where * (voice + 0.5 * torch.randn_like(rows))

    def strength(self, logits: Tensor) -> Tensor:
        """How far the seals draw, 0..1: a ramp, whose rounding no batch neighbour changes."""
        return (self.firmness[0] * logits + self.firmness[1]).clamp(0, 1)

    def lively(self, told: Tensor, presence: Tensor) -> Tensor:
        """Components of lips as large as life, face widths; at rest where no voice is.

        :param told: (.., COMPONENTS) from `votes`, face widths
        :param presence: (.., 1) from `presence`
        """
        return presence * ((told - self.told_mean) @ self.style + self.lively_mean)

    def mouth(self, components: Tensor) -> Tensor:
        """Coefficients (.., MOUTH_DIM) of lively lips' components (.., COMPONENTS), face widths."""
        return self.fit(components) @ self.spread

    def forward(self, features: Tensor, speech: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param features: (B, HISTORY_ROWS + 2 T + EXTRA_ROWS, 128)
        :param speech: as many rows (.., 4)
        :return: mouth (B, T, MOUTH_DIM) as sealed, seals (B, T, 2)
        """
        told = self.votes(features, speech).mean(0) * self.deviation
        components = self.lively(told, self.presence(speech))
        seal = self.strength(self.seal_logits(features, speech).mean(0))
        return sealed(self.mouth(components), seal), seal
