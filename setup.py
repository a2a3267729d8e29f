"""Build hook: writes the build's identity into wheels. All other settings are in pyproject.toml."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).parent / "services"


class BuildWithIdentity(build_py):
    """Copies the package, and writes beside it the digests that `contract/identity.py` reads."""

    def run(self) -> None:
        """Build. An editable install gets no digests: it computes them from its source tree."""
        super().run()
        if self.editable_mode:
            return
        # Loaded by path, since neither the package nor its requirements are installed yet.
        spec = importlib.util.spec_from_file_location("identity", SOURCE / "contract/identity.py")
        assert spec is not None and spec.loader is not None
        identity = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(identity)
        digests = identity.file_digests(root=SOURCE)
        path = Path(self.build_lib, "talkingface", identity.BUILD_FILE)
        path.write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")


setup(cmdclass={"build_py": BuildWithIdentity})
