"""`talkingface evaluate`: benchmarks of generated motion and of rendered frames.

Every call of `talkingface` imports this module, therefore the benchmarks themselves are imported
where they run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from talkingface_research.motion_gen.evaluation import SECTIONS

if TYPE_CHECKING:
    from argparse import _SubParsersAction

# Packages of the extra, which may be missing.
NEEDED = (
    "scipy", "matplotlib", "soundfile", "onnx", "pocketsphinx", "mediapipe", "dlib",
    "face_recognition_models",
)  # fmt: skip


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "evaluate", help="compare generated motion and rendered frames with real people"
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    motion = kinds.add_parser(
        "motion",
        help="lips, closures, blinks, gaze, head, controls, emotion, robustness, cost",
        description="Print one table: generated motion compared with real video, shuffled audio, "
        "rules alone and a still face, on data not used in training. Needs the extra 'research'.",
    )
    motion.add_argument(
        "--tracking", type=Path, required=True, metavar="DIR", help="tracked clips, a folder a set"
    )
    motion.add_argument(
        "--names",
        type=Path,
        required=True,
        metavar="DIR",
        help="videos and word times of GRID's s1; phone labels of natural recordings are in the "
        "folder public_domain_speech next to it",
    )
    motion.add_argument(
        "--voices", type=Path, required=True, metavar="DIR", help="packed synthetic voices"
    )
    motion.add_argument(
        "--report",
        type=Path,
        required=True,
        metavar="DIR",
        help="where table, JSON and images are written",
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
        "--portrait", type=Path, metavar="FILE", help="with --landmarker: clean and frontal"
    )
    motion.add_argument(
        "--landmarker",
        type=Path,
        metavar="TASK",
        help="face landmarker for rendered portraits; needs mediapipe >= 1.2",
    )
    motion.add_argument(
        "--portraits",
        type=Path,
        metavar="DIR",
        help="with --landmarker: frontal portraits to render",
    )
    motion.add_argument(
        "--speech",
        type=Path,
        metavar="DIR",
        help="recordings of natural speech, audio alone, for rendered portraits",
    )
    motion.add_argument("--quick", action="store_true", help="fewer clips")
    motion.add_argument("--jobs", type=int, default=1, help="sections in parallel; default 1")
    motion.set_defaults(run=_motion)
    picture = kinds.add_parser(
        "picture",
        help="identity, controls, warp artifacts, mouth and eyes, detail, reenactment, cost",
        description="Print one table: rendered frames compared with the photo, real video, the "
        "warp without its network and a still portrait, and write contact sheets. Of a folder of "
        "more than 50 files only those held out of all training are used: every 12th portrait, "
        "every 23rd clip. Needs the extra 'research'.",
    )
    picture.add_argument(
        "--portraits",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="photos, or folders of photos",
    )
    picture.add_argument(
        "--videos",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="clips of one speaker each, or folders of clips",
    )
    picture.add_argument(
        "--report",
        type=Path,
        required=True,
        metavar="DIR",
        help="where table, JSON and contact sheets are written",
    )
    picture.add_argument("--limit", type=_count, metavar="N", help="maximum number of portraits")
    picture.add_argument(
        "--clips",
        type=_count,
        default=4,
        metavar="N",
        help="maximum number of clips of a folder; default 4",
    )
    picture.add_argument("--jobs", type=_count, default=1, help="processes; default 1")
    picture.set_defaults(run=_picture)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _picture(options: argparse.Namespace) -> int:
    with _extra():
        from talkingface_research.renderer.evaluation import run

        report = run.run(
            run.EvalConfig(
                portraits=options.portraits,
                videos=options.videos,
                report=options.report,
                limit=options.limit,
                clips=options.clips,
            ),
            options.jobs,
        )
    print(report.markdown())
    return 0


@contextmanager
def _extra() -> Iterator[None]:
    """Report which extra to install where one of its packages is missing."""
    from talkingface.cli.mesh import MeshError

    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in NEEDED:
            raise
        raise MeshError(
            f"{error.name} is not installed: pip install '.[research]' ./research"
        ) from None


def _motion(options: argparse.Namespace) -> int:
    only = options.only.split(",")
    print_error = argparse.ArgumentParser(prog="talkingface evaluate motion").error
    if unknown := set(only) - set(SECTIONS):
        print_error(f"no such section: {', '.join(sorted(unknown))}")
    if options.landmarker is None and (options.portrait or options.portraits):
        print_error("--portrait and --portraits need --landmarker")
    with _extra():
        from talkingface_research.motion_gen.evaluation import context, run

        report = run.run(
            context.EvalContext(
                tracking=options.tracking,
                names=options.names,
                voices=options.voices,
                report=options.report,
                models=options.models,
                quick=options.quick,
                portrait=options.portrait,
                landmarker=options.landmarker,
                portraits=options.portraits,
                speech=options.speech,
            ),
            only,
            options.jobs,
        )
    print(report.markdown())
    return 0
