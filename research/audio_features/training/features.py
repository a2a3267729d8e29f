"""Speech features of many clips at once, for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkingface.contract.speech_features import ROW_SAMPLES
from talkingface_research.audio_features.network import SpeechEncoder, fold_norms


def load_encoder(checkpoint: Path, device: torch.device | str) -> SpeechEncoder:
    """Load the encoder of a checkpoint of `train`, or of an exported `model.onnx`, in eval mode.

    The weights of an exported graph have the same names, with the batch norms folded into them.
    """
    if checkpoint.suffix == ".onnx":
        encoder = fold_norms(SpeechEncoder().eval())
        weights = {
            weight.name: torch.from_numpy(onnx.numpy_helper.to_array(weight).copy())
            for weight in onnx.load(str(checkpoint)).graph.initializer
        }
        encoder.load_state_dict(weights)
    else:
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        encoder = SpeechEncoder(**stored["arguments"])
        encoder.load_state_dict(stored["model"])
        encoder.eval()
    on_device: SpeechEncoder = encoder.to(device)
    return on_device


@torch.no_grad()
def encode_clips(
    encoder: SpeechEncoder,
    clips: Sequence[NDArray[np.float32] | Tensor],
    batch_samples: int = 16_000 * 600,
) -> list[tuple[Tensor, Tensor]]:
    """Encode clips; the rows are those of a stream of each clip.

    :param clips: each (n,) at 16 kHz, in [-1, 1]
    :param batch_samples: samples in one batch, padding included (bounds the memory)
    :return: by clip, features (ceil(n / 320), 128) and speech
        (ceil(n / 320), 4) on the encoder's device
    """
    device = encoder.first.weight.device
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    out: dict[int, tuple[Tensor, Tensor]] = {}
    while order:
        longest = len(clips[order[-1]])
        count = max(1, batch_samples // max(1, longest))
        chosen, order = order[-count:], order[:-count]
        batch = torch.zeros(len(chosen), longest, device=device)
        for row, i in enumerate(chosen):
            batch[row, : len(clips[i])] = torch.as_tensor(clips[i], device=device)
        features, speech = encoder.encode(batch)
        for row, i in enumerate(chosen):
            rows = -(-len(clips[i]) // ROW_SAMPLES)
            out[i] = (features[row, :rows], speech[row, :rows])
    return [out[i] for i in range(len(clips))]
