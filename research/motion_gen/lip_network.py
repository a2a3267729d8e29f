"""The mouth as predicted from speech alone: small regressors without memory.

Little generalises from one recorded speaker to any voice, so two unlike predictions are averaged: a
ridge regression and a narrow network with dropout, both on a quarter of a second of speech
features. They predict *components* of the lips' displacement (`training/lip_shapes.py`): which
shape when, in the size that one quiet speaker gives it, and smaller still, as a mean is. A fixed
linear map, `style`, then brings them to the size and to the mixture of lively speakers' lips (width
against rounding, corners, upper lip), and a tiny network gives the bounded coefficients of the face
model that reproduce such a displacement (an amortised least-squares fit). Where nobody speaks, the
lips are at rest whatever the rows are.

Two *seals* are the probabilities that the lips are closed (/p b m/) and that the lower lip is at
the teeth (/f v/). A mean of possible mouths is never quite closed, so the seals, trained on phone
times in many voices, close it. The motion generator adds its differences to this mouth
(`network.py`).

Names of parameters and persistent buffers stay as they are: checkpoints hold them.

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
# Voice activity, energy and voicing; pitch depends more on the speaker than on the phones.
VOICE_DIM = FEATURE_DIM + 3
# Phone posteriors add nothing to the articulation, but tie one speaker's lips to one voice.
MOUTH_COLUMNS = slice(ARTICULATION_COLUMNS.start, VOICE_DIM)
ENSEMBLE_SIZE = 2  # networks of the seals; their logits are averaged
COMPONENTS = 8  # of the lips' displacement
DROPOUT = 0.3
EMBEDDING_NOISE = 0.3  # standard deviation in training, half as much again from row to row

_JAW, _CLOSE, _ROLL, _UPPER_LEFT, _UPPER_RIGHT = (
    FACE_INDEX[name] - MOUTH.start
    for name in ("jawOpen", "mouthClose", "mouthRollLower", "mouthUpperUpLeft", "mouthUpperUpRight")
)
# Shapes that part the lips, apart from the jaw.
_OPENERS = torch.tensor(
    [
        name.startswith(("mouthFunnel", "mouthShrugUpper", "mouthUpperUp", "mouthLowerDown"))
        for name in MOUTH_NAMES
    ]
).float()
# By eye, so that closures and lip-to-teeth contact are within the limits of `evaluation.mouth`:
# factors on the jaw (closed, bite) and coefficients of a lower lip at the teeth.
SHUT_JAW, BITE_JAW, BITE_CLOSE, BITE_ROLL, BITE_UPPER = 0.6, 0.5, 0.6, 0.45, 0.12


def frame_rows(rows: Tensor, frames: int) -> Tensor:
    """Rows at 50 Hz to the context of each frame: (B, R, D) -> (B, frames, RECEPTIVE_ROWS D), where
    R = HISTORY_ROWS + 2 frames + EXTRA_ROWS."""
    last = ROWS_PER_FRAME * (frames - 1) + 1
    return torch.cat(
        [rows[:, i : i + last : ROWS_PER_FRAME] for i in range(RECEPTIVE_ROWS)], dim=-1
    )


def rows_to_frames(rows: int) -> int:
    """Number of frames of so many rows, which include the history before the first frame."""
    return (rows - HISTORY_ROWS - EXTRA_ROWS) // ROWS_PER_FRAME


def normalised_speech(speech: Tensor) -> Tensor:
    """Speech rows (.., 4) with each column of about unit size."""
    activity, energy, pitch, voicing = speech.unbind(-1)
    return torch.stack(
        [activity, (energy.clamp(-90, 0) + 45) / 20, (pitch - 7.0) * (pitch > 1), voicing], dim=-1
    )


def sealed(mouth: Tensor, seal: Tensor) -> Tensor:
    """A mouth moved towards closed lips, or the lower lip at the upper teeth.

    :param mouth: (.., MOUTH_DIM) coefficients
    :param seal: (.., 2) share of the way, 0..1, by `SEALS`
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

    It is trained to minimise the distance of the landmarks and a small cost of each coefficient
    (`training/mouth_fit.py`), so one small network stands for a bounded least-squares fit a frame.
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
        # Of the recorded speaker's components, in face widths: the unit of the predictions.
        self.register_buffer("deviation", torch.ones(COMPONENTS))
        # Mean of the predictions during speech, the map to lively speakers' size, and their mean.
        self.register_buffer("told_mean", torch.zeros(COMPONENTS))
        self.register_buffer("style", torch.eye(COMPONENTS))
        self.register_buffer("lively_mean", torch.zeros(COMPONENTS))
        self.register_buffer("mouth_mean", torch.zeros(MOUTH_DIM))
        self.register_buffer("mouth_scale", torch.ones(MOUTH_DIM))
        # Slope and middle of the ramp from a seal's logit to its strength.
        self.register_buffer("firmness", torch.tensor([[0.7] * len(SEALS), [0.95] * len(SEALS)]))
        # (SHAPE_COUNT, MOUTH_DIM): shapes to coefficients.
        spread = torch.from_numpy(LIP_SHAPES[:, FACE_COLUMNS[MOUTH]])
        self.register_buffer("spread", spread, persistent=False)
        # Older speech counts less, so that lips come to rest after it.
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
        self.seals = nn.ModuleList(network(VOICE_DIM, len(SEALS)) for _ in range(ENSEMBLE_SIZE))
        self.fit = MouthFit()

    def normalised_rows(self, features: Tensor, speech: Tensor) -> Tensor:
        """Normalised rows (B, R, VOICE_DIM) of features (B, R, 128) and speech (B, R, 4)."""
        activity, energy, _, voicing = normalised_speech(speech).unbind(-1)
        rows = torch.cat([features, torch.stack([activity, energy, voicing], -1)], -1)
        return (rows - self.mean) / self.scale

    def predictions(self, features: Tensor, speech: Tensor) -> Tensor:
        """Components by the ridge regression and by the network, (2, B, T, COMPONENTS) in units of
        `deviation`."""
        rows = self.normalised_rows(features, speech)
        known = (self.add_noise(rows) if self.training else rows)[..., MOUTH_COLUMNS]
        inputs = frame_rows(known, rows_to_frames(features.shape[1]))
        return torch.stack([self.ridge(inputs), self.shapes(inputs)])

    def seal_logits(self, features: Tensor, speech: Tensor) -> Tensor:
        """Logits of the seals by each network: (ENSEMBLE_SIZE, B, T, 2)."""
        rows = self.normalised_rows(features, speech)
        inputs = frame_rows(rows, rows_to_frames(features.shape[1]))
        return torch.stack([seal(inputs) for seal in self.seals])

    def presence(self, speech: Tensor) -> Tensor:
        """How much speech there is at each frame, 0..1: (B, R, 4) to (B, T, 1)."""
        activity = frame_rows(speech[..., VOICE_ACTIVITY, None], rows_to_frames(speech.shape[1]))
        return (activity * self.nearness).amax(-1, keepdim=True).clamp(0, 1)

    @staticmethod
    def add_noise(rows: Tensor) -> Tensor:
        """Rows with noise on the embedding, in training, so that the network does not rely on its
        details."""
        where = torch.zeros(VOICE_DIM, device=rows.device)
        where[EMBEDDING_COLUMNS] = EMBEDDING_NOISE
        voice = torch.randn(len(rows), 1, VOICE_DIM, device=rows.device)
        return rows + where * (voice + 0.5 * torch.randn_like(rows))

    def strength(self, logits: Tensor) -> Tensor:
        """Share of the way to closed lips, 0..1: a ramp, since its rounding does not depend on the
        rest of the batch as that of a sigmoid does."""
        return (self.firmness[0] * logits + self.firmness[1]).clamp(0, 1)

    def lively(self, predicted: Tensor, presence: Tensor) -> Tensor:
        """Components of lips as large as lively speakers', face widths; at rest without speech.

        :param predicted: (.., COMPONENTS) mean of `predictions`, face widths
        :param presence: (.., 1) from `presence`
        """
        return presence * ((predicted - self.told_mean) @ self.style + self.lively_mean)

    def mouth(self, components: Tensor) -> Tensor:
        """Coefficients (.., MOUTH_DIM) of lively lips' components (.., COMPONENTS), face widths."""
        return self.fit(components) @ self.spread

    def forward(self, features: Tensor, speech: Tensor) -> tuple[Tensor, Tensor]:
        """
        :param features: (B, HISTORY_ROWS + 2 T + EXTRA_ROWS, 128)
        :param speech: as many rows (.., 4)
        :return: mouth (B, T, MOUTH_DIM) with the seals applied, and the seals (B, T, 2)
        """
        predicted = self.predictions(features, speech).mean(0) * self.deviation
        components = self.lively(predicted, self.presence(speech))
        seal = self.strength(self.seal_logits(features, speech).mean(0))
        return sealed(self.mouth(components), seal), seal
