"""`talkingface bench`: measurements of a mesh on this machine.

`bench speed` (also plain `bench`) measures how fast each part is, `bench start` how long a mesh
takes to start and how large it is, `bench live` live sessions from what a client receives. Every
call of `talkingface` imports this module, therefore the benches themselves are imported where they
run.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import talkingface

if TYPE_CHECKING:
    from argparse import _SubParsersAction

OUTPUTS = ("h264", "jpeg", "png")
MAX_SESSIONS = 64  # of `bench live`
_SPEECH = Path(talkingface.__file__).resolve().parents[1] / "demo" / "speech.flac"  # in a checkout


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure a mesh on this machine",
        description="Measure a mesh. Without KIND: speed, with the demo's portrait and speech.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    parser.set_defaults(**vars(_add_speed(kinds).parse_args([])))
    _add_start(kinds)
    _add_live(kinds)


def _add_inputs(parser: argparse.ArgumentParser, audio: bool = True) -> None:
    parser.add_argument(
        "portrait", type=Path, nargs="?", metavar="PORTRAIT", help="default: the demo's, fetched"
    )
    if audio:
        parser.add_argument(
            "audio",
            type=Path,
            nargs="?",
            default=_SPEECH,
            metavar="AUDIO",
            help="default: the demo's",
        )
    parser.add_argument(
        "--rounds",
        type=_count,
        default=3,
        help="measurements of each row, of which the worst is the figure; with --against: pairs of "
        "runs in turns; default 3",
    )
    parser.add_argument(
        "--against", metavar="REF", help="compare with another commit, in turns: ratios"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")


def _add_speed(kinds: _SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "speed",
        help="frames a second, intervals, CPU and memory, stage by stage and end to end",
        description="Start a mesh on this machine and measure each stage alone, the renderer in "
        "several sizes and frame rates, whole offline sessions, and a live session whose audio "
        "comes in real time.",
    )
    _add_inputs(parser)
    parser.add_argument(
        "--sessions", type=_count, default=2, help="offline sessions side by side; default 2"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the mesh's log here")
    parser.set_defaults(run=_run, kind="speed", usage_error=parser.error)
    return parser


def _add_start(kinds: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "start",
        help="start of a mesh, cold and warm, first frame after open, memory, disk",
        description="Start a mesh without and with compiled kernels and bytecode, open sessions "
        "with a prepared portrait, and measure its memory and the disk of its packages.",
    )
    _add_inputs(parser, audio=False)
    parser.add_argument("--opens", type=_count, default=20, help="sessions opened; default 20")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _add_live(kinds: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "live",
        help="live sessions: first frame, audio to lips, late frames, drift, memory, overload",
        description="Run live sessions that talk, interrupt and change controls, and measure from "
        "what comes back: first frame after open, audio to lips, controls, interruption, late "
        "frames, gaps, drift of frames, audio and lips, memory and CPU; with bars and verdicts. "
        "Exit code 0 unless the run itself fails.",
    )
    _add_inputs(parser)
    parser.add_argument("--target", metavar="HOST:PORT", help="a mesh that is running already")
    parser.add_argument("--sessions", type=_count, default=1, help="side by side; default 1")
    parser.add_argument("--seconds", type=_positive, default=60.0, help="of each round; default 60")
    parser.add_argument("--opens", type=int, default=20, help="sessions opened before; default 20")
    parser.add_argument(
        "--ramp",
        type=_positive,
        metavar="SECONDS",
        help="open another session every so many seconds, until one is refused or more than 1 %% "
        "of the frames are late; in place of --sessions and --seconds",
    )
    parser.add_argument(
        "--overload",
        type=_positive,
        metavar="FACTOR",
        help="in the second half, try every two seconds to open FACTOR x slots more sessions at "
        "once; a mesh of its own has as many slots as sessions",
    )
    parser.add_argument(
        "--replicas",
        type=_replicas,
        default={},
        metavar="STAGE=N,..",
        help="of its own mesh's stages; default one each",
    )
    parser.add_argument("--slots", type=_count, help="of its own mesh; default: the services' own")
    parser.add_argument("--size", type=int, default=512, help="of the frame in pixels; default 512")
    parser.add_argument("--fps", type=int, default=25, help="frames a second; default 25")
    parser.add_argument("--output", choices=OUTPUTS, default="h264", help="default h264")
    parser.add_argument(
        "--stress",
        type=_cores,
        default=0,
        metavar="N",
        help="keep N cores of this machine busy during the sessions, by stress-ng or, where that "
        "is not installed, by loops of Python; default 0",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write the table and a sheet of frames here, and curves where matplotlib is installed",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the mesh's log here")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(options: argparse.Namespace) -> int:
    # A comparison runs many meshes, all of which it starts, and prints ratios alone.
    alone = [name for name in ("target", "ramp", "report", "log") if getattr(options, name, None)]
    if options.against is not None:
        if alone:
            options.usage_error(f"--against cannot be used with --{alone[0]}")
        from talkingface_research.bench import comparison

        return comparison.run(options)
    if options.kind == "speed":
        from talkingface_research.bench import speed

        return speed.run(options)
    if options.kind == "start":
        from talkingface_research.bench import startup

        return startup.run(options)
    if options.ramp:
        options.rounds = 1
    from talkingface_research.bench import live

    return live.run(options)


def _count(text: str) -> int:
    if not 1 <= (value := int(text)) <= MAX_SESSIONS:
        raise argparse.ArgumentTypeError(f"{text} is outside 1..{MAX_SESSIONS}")
    return value


def _cores(text: str) -> int:
    available = len(os.sched_getaffinity(0))
    if not 0 <= (value := int(text)) <= available:
        raise argparse.ArgumentTypeError(f"{text} is outside 0..{available}, the cores here")
    return value


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _replicas(text: str) -> dict[str, int]:
    from talkingface.cli.mesh import STAGES

    replicas = {}
    for part in text.split(","):
        stage, _, number = part.partition("=")
        if stage not in STAGES:
            raise argparse.ArgumentTypeError(f"{stage!r} is none of {', '.join(STAGES)}")
        replicas[stage] = _count(number)
    return replicas
