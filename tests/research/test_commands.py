"""The commands of this package, which every call of `talkingface` registers."""

from __future__ import annotations

import subprocess
import sys

REGISTERED = """
import argparse, sys
from importlib.metadata import entry_points

commands = argparse.ArgumentParser().add_subparsers()
for name in ("bench", "evaluate"):
    (entry,) = entry_points(group="talkingface.commands", name=name)
    entry.load()(commands)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_commands_are_registered_without_their_packages() -> None:
    """Users who animate portraits do not wait for numpy, OpenCV and gRPC of benchmarks."""
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "talkingface_research" in loaded
    assert not loaded & {"av", "cv2", "grpc", "matplotlib", "numpy", "onnxruntime", "rich", "scipy"}
