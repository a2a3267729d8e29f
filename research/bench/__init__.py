"""`talkingface bench`: what a mesh does on this machine, in figures.

`bench speed` (also plain `bench`) tells how fast each part is, `bench live` how live sessions hold,
measured from what a client receives.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from talkingface_research.bench import live, speed

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure a mesh on this machine",
        description="Measure a mesh. Without KIND: speed, with the demo's portrait and speech.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    parser.set_defaults(**vars(speed.add_parser(kinds).parse_args([])))
    live.add_parser(kinds)
