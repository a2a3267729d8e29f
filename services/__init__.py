"""One portrait and one voice become a live talking face: a mesh of four gRPC services.

The folder `services/` is installed as the package `talkingface` (see `pyproject.toml`).
"""

from importlib import metadata

__version__ = metadata.version("talkingface")
