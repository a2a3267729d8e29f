"""`talkingface animate`: turn a portrait and an audio file into an MP4."""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from talkingface.cli.mesh import STAGES, LocalMesh, log_to
from talkingface.client import (
    FRAMING_CROP,
    FRAMING_PHOTO,
    Background,
    Controls,
    Emotion,
    Gaze,
    HeadRotation,
    Media,
    Started,
    Summary,
    TalkingFace,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction

FRAMINGS = {"crop": FRAMING_CROP, "photo": FRAMING_PHOTO}
EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "animate",
        help="animate a portrait with a voice",
        description="Animate PORTRAIT (JPEG, PNG or WebP) with the speech in AUDIO (WAV, MP3, FLAC "
        "or Ogg) and write an MP4. Without --server, a mesh is started on this machine.",
    )
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT")
    parser.add_argument("audio", type=Path, metavar="AUDIO")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    parser.add_argument("--server", metavar="HOST:PORT", help="use a running mesh")
    parser.add_argument(
        "--seed", type=int, help="the same seed gives the same motion; default: random"
    )
    parser.add_argument("--quality", type=int, metavar="CRF", help="10 (best) to 40, default 20")
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the square video, 256 to 1024, default 512",
    )
    parser.add_argument(
        "--fps", type=int, metavar="N", help="frames a second, 25 to 60, default 25"
    )
    parser.add_argument(
        "--framing",
        choices=FRAMINGS,
        default="crop",
        help="crop: head and shoulders; photo: the whole photo at its own size (the longer side at "
        "most 1920), where only the person moves; default crop",
    )
    parser.add_argument(
        "--background",
        type=_background,
        metavar="photo|transparent|#RRGGBB|FILE",
        help="what is seen behind the person: the photo's, a colour, an image of at most 1 MiB, or "
        "nothing: then the video has double width, colours on the left and opacity on the right; "
        "default photo",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the local mesh's log here")
    controls = parser.add_argument_group("controls")
    controls.add_argument(
        "--gaze",
        type=_numbers(2),
        metavar="P,Y",
        help="degrees up -20..20 and to the viewer's right -25..25; default: natural gaze; "
        "write --gaze=-5,3 if it begins with a minus sign",
    )
    controls.add_argument(
        "--distance",
        type=float,
        metavar="R",
        help="distance of the head, 0.7..1.6; default 1, as photographed",
    )
    controls.add_argument(
        "--head-pose",
        type=_numbers(3),
        metavar="P,Y,R",
        help="pitch, yaw, roll added to the head's pose, degrees -20..20; default 0,0,0",
    )
    controls.add_argument(
        "--head-motion",
        type=float,
        metavar="FACTOR",
        help="factor on the head's motion, 0..2; default 1",
    )
    controls.add_argument(
        "--emotion",
        type=_emotion,
        action="append",
        metavar="NAME=W",
        help=f"weight 0..1 of {', '.join(EMOTIONS)}; may be repeated",
    )
    controls.add_argument(
        "--blink-rate", type=float, metavar="N", help="blinks a minute, 0..60; default: natural"
    )
    controls.add_argument(
        "--mouth-scale",
        type=float,
        metavar="FACTOR",
        help="factor on the mouth's motion, 0..1.5; default 1",
    )
    controls.add_argument(
        "--expressivity",
        type=float,
        metavar="FACTOR",
        help="factor on brows, smiles, nods and other expression beside speech, 0..2; default 1",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    portrait: bytes = options.portrait.read_bytes()
    audio: bytes = options.audio.read_bytes()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    partial = options.output.with_name(f".{options.output.name}.part")
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[frames]}"),
        TimeElapsedColumn(),
        console=console,
    )
    task = progress.add_task("starting", total=len(STAGES) + 1, frames="")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        file = stack.enter_context(partial.open("wb"))
        stack.enter_context(progress)
        target = options.server
        if target is None:
            begin = time.perf_counter()

            def on_serving(service: str) -> None:
                progress.update(task, description=f"starting: {service} is ready", advance=1)

            mesh = LocalMesh(on_progress=on_serving, on_line=options.log and log_to(options.log))
            target = stack.enter_context(mesh).target
            console.print(f"mesh ready after {time.perf_counter() - begin:.1f} s")
        progress.update(task, description="portrait", total=None)
        started, summary = asyncio.run(
            _animate(
                target,
                portrait,
                audio,
                options,
                file,
                lambda **changes: progress.update(task, **changes),
            )
        )
        file.flush()
        partial.replace(options.output)
        progress.update(task, description="done")
        seconds = summary.elapsed.ToTimedelta().total_seconds()
        console.print(
            f"{options.output}: {summary.frames} frames of "
            f"{started.video.width}x{started.video.height} at "
            f"{started.video.frame_rate} a second, "
            f"{summary.audio_duration.ToTimedelta().total_seconds():.2f} s of audio, "
            f"generated at {summary.frames / seconds:.1f} FPS, first frame after "
            f"{summary.first_frame_delay.ToMilliseconds()} ms, seed {started.config.seed}",
            highlight=False,
            soft_wrap=True,
        )
    return 0


async def _animate(
    target: str,
    portrait: bytes,
    audio: bytes,
    options: argparse.Namespace,
    file: BinaryIO,
    update: Callable[..., None],
) -> tuple[Started, Summary]:
    """Animate, write the video and report the progress.

    :param target: host:port of the orchestrator
    :param portrait: bytes of the image file
    :param audio: bytes of the audio file
    :param options: arguments of the command
    :param file: file for the video
    :param update: called with changes of the progress bar
    """
    frames, begin = 0, 0.0
    expected: int | None = None
    async with TalkingFace(target) as face:
        messages = face.animate(
            portrait=portrait,
            audio=audio,
            controls=_controls(options),
            seed=options.seed,
            quality=options.quality,
            size=options.size,
            frame_rate=options.fps,
            framing=FRAMINGS[options.framing],
            background=options.background,
        )
        async for message in messages:
            if isinstance(message, Started):
                begin = time.perf_counter()
                started = message
                expected = _expected_frames(options.audio, started.video.frame_rate)
                update(description="animating", total=expected, completed=0)
            elif isinstance(message, Media):
                file.write(message.data)
                frames += message.frame_count
                fps = frames / (time.perf_counter() - begin)
                update(completed=frames, frames=f"{frames}/{expected or '?'} frames {fps:5.1f} FPS")
            elif isinstance(message, Summary):
                summary = message
    return started, summary


def _controls(options: argparse.Namespace) -> Controls:
    controls = Controls(
        distance_ratio=options.distance,
        head_motion_scale=options.head_motion,
        blink_rate=options.blink_rate,
        mouth_scale=options.mouth_scale,
        expressivity=options.expressivity,
    )
    if options.gaze is not None:
        controls.gaze_direction.CopyFrom(Gaze(pitch=options.gaze[0], yaw=options.gaze[1]))
    if options.head_pose is not None:
        pitch, yaw, roll = options.head_pose
        controls.head_pose.CopyFrom(HeadRotation(pitch=pitch, yaw=yaw, roll=roll))
    if options.emotion:
        controls.emotion.CopyFrom(Emotion(**dict(options.emotion)))
    return controls


def _expected_frames(audio: Path, frame_rate: int) -> int | None:
    """Return the number of frames for an audio file, or None if its header has no duration."""
    try:
        with av.open(str(audio)) as container:
            if container.duration is None:
                return None
            return math.ceil(container.duration / av.time_base * frame_rate)
    except av.FFmpegError:
        return None


def _numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    """Return an argument type of argparse: `count` numbers separated by commas."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers separated by commas")
        return values

    return parse


def _background(text: str) -> Background:
    if text == "photo":
        return Background(photo={})
    if text == "transparent":
        return Background(transparent={})
    if text.startswith("#"):
        if not re.fullmatch("#[0-9a-fA-F]{6}", text):
            raise argparse.ArgumentTypeError(f"{text!r} is not #RRGGBB")
        red, green, blue = bytes.fromhex(text[1:])
        return Background(colour={"red": red, "green": green, "blue": blue})
    try:
        return Background(image=Path(text).read_bytes())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None


def _emotion(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        value = float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=WEIGHT") from None
    if name not in EMOTIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(EMOTIONS)}")
    return name, value
