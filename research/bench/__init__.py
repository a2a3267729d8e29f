"""`talkingface bench`: measurements of a mesh on this machine.

`bench speed` (also plain `bench`) measures how fast each part is, `bench live` live sessions from
what a client receives. Every call of `talkingface` imports this module, therefore the benches
themselves are imported where they run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import talkingface

if TYPE_CHECKING:
    from argparse import _SubParsersAction

OUTPUTS = ("h264", "jpeg", "png")
MAX_SESSIONS = 64  # of `bench live`
_SPEECH = Path(talkingface.__file__).parents[1] / "demo" / "speech.flac"  # in a checkout


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure a mesh on this machine",
        description="Measure a mesh. Without KIND: speed, with the demo's portrait and speech.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    parser.set_defaults(**vars(_add_speed(kinds).parse_args([])))
    _add_live(kinds)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "portrait", type=Path, nargs="?", metavar="PORTRAIT", help="default: the demo's, fetched"
    )
    parser.add_argument(
        "audio", type=Path, nargs="?", default=_SPEECH, metavar="AUDIO", help="default: the demo's"
    )


def _add_speed(kinds: _SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "speed",
        help="frames a second, intervals, CPU and memory, stage by stage and end to end",
        description="Start a mesh on this machine and measure each stage alone, the renderer in "
        "several sizes and frame rates, whole offline sessions, and a live session whose audio "
        "comes in real time.",
    )
    _add_inputs(parser)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; default 3")
    parser.add_argument(
        "--sessions", type=int, default=2, help="offline sessions side by side; default 2"
    )
    parser.add_argument(
        "--against", metavar="REF", help="compare with another commit, in turns: ratios"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of --against; default 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the mesh's log here")
    parser.set_defaults(run=_run_speed)
    return parser


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
    parser.add_argument("--seconds", type=_positive, default=60.0, help="to measure; default 60")
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here as well")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write the table and a sheet of frames here, and curves where matplotlib is installed",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the mesh's log here")
    parser.set_defaults(run=_run_live)


def _run_speed(options: argparse.Namespace) -> int:
    if options.against is not None:
        from talkingface_research.bench import comparison

        return comparison.run(options)
    from talkingface_research.bench import speed

    return speed.run(options)


def _run_live(options: argparse.Namespace) -> int:
    from talkingface_research.bench import live

    return live.run(options)


def _count(text: str) -> int:
    if not 1 <= (value := int(text)) <= MAX_SESSIONS:
        raise argparse.ArgumentTypeError(f"{text} is outside 1..{MAX_SESSIONS}")
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
