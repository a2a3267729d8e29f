"""The client costs little where nothing else is needed."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_client_loads_neither_numpy_nor_a_server() -> None:
    script = "import json, sys, talkingface.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "grpc" in loaded
    assert not loaded & {"numpy", "prometheus_client", "talkingface.serving"}
