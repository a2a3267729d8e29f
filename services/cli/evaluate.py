"""`talkingface evaluate`: rulers for what the models make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface.cli.mesh import MeshError
from talkingface.motion_gen.evaluation import SECTIONS

if TYPE_CHECKING:
    from argparse import _SubParsersAction

# Of the extra: what may be missing.
NEEDED = ("scipy", "matplotlib", "soundfile", "onnx", "pocketsphinx", "mediapipe")


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("evaluate", help="compare what the models make with real people")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    motion = kinds.add_parser(
        "motion",
        help="lips, closures, blinks, gaze, head, controls, emotion, robustness, cost",
        description="Print one table, generated motion beside real video, shuffled audio, rules "
        "alone and a still face, on data never trained on. Needs the extra 'evaluation'.",
    )
    motion.add_argument(
        "--tracking", type=Path, required=True, metavar="DIR", help="tracked clips, a folder a set"
    )
    motion.add_argument(
        "--names",
        type=Path,
        required=True,
        metavar="DIR",
        help="videos and word times of GRID's s1; phone labels of the natural recordings beside it",
    )
    motion.add_argument(
        "--voices", type=Path, required=True, metavar="DIR", help="packed synthetic voices"
    )
    motion.add_argument(
        "--report", type=Path, required=True, metavar="DIR", help="table, JSON and pictures go here"
    )
    motion.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=[],
        metavar="ONNX",
        help="encoder and/or generator to measure in place of the shipped ones",
    )
    motion.add_argument(
        "--only", default=",".join(SECTIONS), metavar="A,B", help=f"of {','.join(SECTIONS)}"
    )
    motion.add_argument(
        "--portrait", type=Path, metavar="FILE", help="with --landmarker: draw emotions on it"
    )
    motion.add_argument(
        "--landmarker",
        type=Path,
        metavar="TASK",
        help="face landmarker that reads the drawn emotions back; needs mediapipe >= 1.2",
    )
    motion.add_argument("--quick", action="store_true", help="fewer clips")
    motion.add_argument("--jobs", type=int, default=1, help="sections side by side; default 1")
    motion.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is the exit code."""
    only = options.only.split(",")
    print_error = argparse.ArgumentParser(prog="talkingface evaluate motion").error
    if unknown := set(only) - set(SECTIONS):
        print_error(f"no such section: {', '.join(sorted(unknown))}")
    if (options.landmarker is None) != (options.portrait is None):
        print_error("--landmarker and --portrait go together")
    try:
        from talkingface.motion_gen.evaluation import bench, ruler

        report = ruler.run(
            bench.Bench(
                tracking=options.tracking,
                names=options.names,
                voices=options.voices,
                report=options.report,
                models=options.models,
                quick=options.quick,
                portrait=options.portrait,
                landmarker=options.landmarker,
            ),
            only,
            options.jobs,
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in NEEDED:
            raise
        raise MeshError(
            f"{error.name} is not installed: pip install 'talkingface[evaluation]'"
        ) from None
    print(report.markdown())
    return 0
