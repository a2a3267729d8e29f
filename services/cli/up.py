"""`talkingface up`: run a mesh in the foreground."""

from __future__ import annotations

import argparse
import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from talkingface.cli.mesh import ORCHESTRATOR, STAGES, LocalMesh

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_COLOURS = dict(zip((ORCHESTRATOR, *STAGES), ("cyan", "green", "yellow", "magenta"), strict=True))
_CHECK_SECONDS = 0.5  # between checks that all services run


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "up",
        help="run a mesh on this machine until Ctrl-C",
        description="Run four services and three Triton servers on this machine, with one log, "
        "until Ctrl-C or SIGTERM (exit code 0). Settings are TALKINGFACE_* environment variables. "
        "Without TALKINGFACE_SLOTS the mesh measures how many sessions the machine holds, and "
        "admits one until it knows.",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=50050,
        help="of the orchestrator; 0 takes a free one; default 50050",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    lock = threading.Lock()

    def write(service: str, line: str) -> None:
        prefix = Text(f"{service:<14} ", style=_COLOURS.get(service, "white"))
        with lock:
            console.print(prefix + Text(line))

    mesh = LocalMesh(port=options.port, on_line=write)
    try:
        mesh.start()
        write("mesh", f"ready at {mesh.target}; stop with Ctrl-C")
        for name, process in mesh.processes.items():
            write(
                "mesh", f"{name}: grpc {process.target}, metrics 127.0.0.1:{process.metrics_port}"
            )
        while True:
            time.sleep(_CHECK_SECONDS)
            mesh.check()
    except KeyboardInterrupt:
        write("mesh", "stopping")
        return 0
    finally:
        mesh.stop()
