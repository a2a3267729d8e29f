"""The command line `talkingface`.

| exit code | meaning |
|---|---|
| 0 | done |
| 2 | wrong arguments |
| 3 | bad input: a portrait, audio, a control, or a file that cannot be read or written |
| 4 | unavailable: server or mesh cannot be reached, cannot start, or is full; retry later |
| 5 | a bug of the server |
| 130 | interrupted |

An error is one line on stderr, "talkingface: REASON: message"; REASON, from errors.proto, is
present if the server has sent one.

Other packages add commands through the entry-point group `talkingface.commands`: each entry is a
function that gets the subparsers of the command line and adds its own to them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.metadata import entry_points
from types import FrameType

# Hides gRPC's own log lines, such as the one about a server that shuts down, from the user. gRPC
# reads the variable when it is imported; therefore the functions below import it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

BAD_INPUT, UNAVAILABLE, INTERNAL, INTERRUPTED = 3, 4, 5, 130
_EXIT_CODES = {
    "INVALID_ARGUMENT": BAD_INPUT,
    "NOT_FOUND": BAD_INPUT,
    "RESOURCE_EXHAUSTED": UNAVAILABLE,
    "UNAVAILABLE": UNAVAILABLE,
}


# Commands of the package talkingface-research, which animating portraits does not need.
_RESEARCH = ("bench", "evaluate")


def parser() -> argparse.ArgumentParser:
    """Return the parser with the commands of this package and of the installed extensions."""
    import talkingface
    from talkingface.cli import animate, up

    root = argparse.ArgumentParser(
        prog="talkingface",
        description="Turn one portrait and one voice into a talking face.",
        epilog="Exit codes: 0 done, 2 wrong arguments, 3 bad input, 4 unavailable, 5 bug of the "
        "server, 130 interrupted.",
    )
    root.add_argument(
        "--version", action="version", version=f"talkingface {talkingface.__version__}"
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    animate.add_parser(commands)
    up.add_parser(commands)
    for entry in entry_points(group="talkingface.commands"):
        entry.load()(commands)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    :param argv: arguments; default: those of the process
    :return: exit code, see the package's docstring
    """
    argv = sys.argv[1:] if argv is None else argv
    installed = entry_points(group="talkingface.commands").names
    if argv and argv[0] in _RESEARCH and argv[0] not in installed:
        return _not_installed(argv[0], "'.[research]' ./research")
    try:
        options = parser().parse_args(argv)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("talkingface"):
            raise
        return _not_installed(error.name, "'.[mesh]'")  # only the client is installed

    from talkingface import client
    from talkingface.cli.mesh import MeshError
    from talkingface.contract.errors import ServiceError

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = options.run(options)
        return code
    except (client.TalkingFaceError, ServiceError) as error:
        return _fail(_EXIT_CODES.get(error.code.name, INTERNAL), error)
    except MeshError as error:
        return _fail(UNAVAILABLE, error)
    except OSError as error:
        return _fail(BAD_INPUT, f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _not_installed(what: str, extra: str) -> int:
    return _fail(UNAVAILABLE, f"{what} is not installed: pip install {extra}")


def _fail(code: int, error: object) -> int:
    print(f"talkingface: {' | '.join(str(error).splitlines())}", file=sys.stderr)
    return code
