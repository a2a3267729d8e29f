"""Train the motion generator on recorded, revoiced and rule-made motion.

    python -m talkingface_research.motion_gen.training.train --data DIR --sentences DIR --speech DIR
        --encoder FILE.pt --lively FILE.npz --out DIR --device cpu --minutes 30 [--init CHECKPOINT]

`--data` is what `prepare` wrote; `--sentences` GRID sentences in other voices and the phone times
of the speaker's own (`NAME.wav`, `NAME.npz`); `--speech` the packed voices of the speech encoder's
training; `--encoder` its checkpoint, which stays frozen.

First the lips that can be predicted from speech alone (`LipRegressor`), then, with those fixed, the
transformer. Writes lips.pt, generator.pt (of the transformer the running mean of the weights) and
log.txt. Validation is on recorded clips and on voices that are not trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from talkingface.contract.speech_features import MODEL_NAME as ENCODER
from talkingface_research.motion_gen.evaluation.pipeline import SHIPPED
from talkingface_research.motion_gen.network import MotionGenerator, save
from talkingface_research.motion_gen.training.corpus import Corpus, Sources
from talkingface_research.motion_gen.training.data import Variant
from talkingface_research.motion_gen.training.lip_regression import train_lips
from talkingface_research.motion_gen.training.lip_style import recorded_mouth, set_style
from talkingface_research.motion_gen.training.losses import channel_weights, chunk_loss
from talkingface_research.motion_gen.training.mouth_fit import train_mouth_fit
from talkingface_research.motion_gen.training.normalisation import set_mouth_scale, set_scale
from talkingface_research.motion_gen.training.schedule import cosine_decay, set_rate
from talkingface_research.motion_gen.training.validation import generator_figures, lips_figures

LEARNING_RATE = 7e-4
WARMUP_STEPS = 200
AVERAGING = 0.998  # decay of the running mean of the weights, a step
WINDOWS = 16  # of a chunk, which share its past
LOSSES_EVERY = 50  # steps


class Log:
    """Figures as lines of JSON, on stdout and in a file."""

    def __init__(self, path: Path) -> None:
        self._began = time.monotonic()
        self._file = path.open("a")

    def __call__(self, **fields: float) -> None:
        shown = {name: round(value, 4) for name, value in fields.items()}
        line = json.dumps({"seconds": round(time.monotonic() - self._began), **shown})
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def train(args: argparse.Namespace) -> None:
    """Train both networks and write their checkpoints."""
    end = time.monotonic() + 60 * args.minutes
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    log = Log(args.out / "log.txt")

    corpus = Corpus(
        Sources(
            data=args.data,
            sentences=args.sentences,
            speech=args.speech,
            encoder=args.encoder,
            lively=args.lively,
            audio_only_minutes=args.audio_only_minutes,
        ),
        device,
        args.seed,
    )
    print(corpus.summary(), flush=True)
    validation = corpus.validation()
    log(validation_streams=validation.streams)
    variants = []
    for i in range(args.variants):
        variants.append(corpus.variant(i % 2 == 1, args.revoiced, args.audio_only))
        log(variant=i, streams=variants[-1].streams)

    model = MotionGenerator()
    if args.init:
        checkpoint = torch.load(args.init, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["weights"])
    model.to(device)
    if args.lips_steps:
        train_lips(model.lips, variants, args.lips_steps, corpus.component_opening, log)
        opening = corpus.component_opening
        wanted = set_style(model.lips, variants[0], corpus.lively, opening, log)
        train_mouth_fit(model.lips, wanted, corpus.speaker.basis, log)
        set_mouth_scale(model.lips, wanted)
    mouth = recorded_mouth(model.lips, variants[0], corpus.lively)
    for variant in (*variants, validation):
        variant.set_mouths(model.lips, mouth)
    if args.lips_steps:
        log(**lips_figures(model.lips, validation, corpus.opening, corpus.width))
        save(model, str(args.out / "lips.pt"))
    model.lips.requires_grad_(False)
    if not args.init:
        set_scale(model, variants[0])

    train_transformer(model, variants, validation, corpus.opening, end, args, log)
    log.close()


def train_transformer(
    model: MotionGenerator,
    variants: list[Variant],
    validation: Variant,
    opening: torch.Tensor,
    end: float,
    args: argparse.Namespace,
    log: Log,
) -> None:
    """Train all but the lips until `end` on the monotonic clock.

    :param opening: (FACE_DIM,) opening of the inner lips by face column
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
    weights = channel_weights().to(validation.target.device)
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    random = torch.Generator(validation.target.device).manual_seed(args.seed)
    shown: dict[str, float] = {}
    step = 0

    def report() -> None:
        mean_model = averaged.module.eval()
        log(step=step, **shown, **generator_figures(mean_model, validation, opening))
        save(mean_model, str(args.out / "generator.pt"), step=step)

    start = time.monotonic()
    report_every = (end - start) / args.reports
    next_report = start + report_every
    while (now := time.monotonic()) < end:
        warmth, cosine = cosine_decay(step, (now - start) / (end - start), WARMUP_STEPS)
        set_rate(optimizer, args.rate * warmth * cosine)
        batch = variants[step % len(variants)].random_chunks(args.batch, WINDOWS, random)
        losses = chunk_loss(model, batch, opening, weights)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        step += 1
        if step % LOSSES_EVERY == 0:
            shown = {name: float(value.detach()) for name, value in losses.items()}
        if now >= next_report:
            next_report += report_every
            report()
    report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=SHIPPED[ENCODER])
    parser.add_argument("--lively", type=Path, required=True, help="statistics of lively lips")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--batch", type=int, default=32, help="chunks of 16 windows")
    parser.add_argument("--lips-steps", type=int, default=4000, help="0 = keep those of --init")
    parser.add_argument("--variants", type=int, default=2, help="every second one is augmented")
    parser.add_argument("--revoiced", type=int, default=500, help="clips in a variant")
    parser.add_argument("--audio-only", type=int, default=400, help="streams in a variant")
    parser.add_argument(
        "--audio-only-minutes", type=float, default=10.0, help="of each packed voice"
    )
    parser.add_argument("--reports", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
