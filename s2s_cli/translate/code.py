"""Which code translates: the version alone does not tell, since a search may change between two of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import s2s_cli
from s2s_cli.files import sha256

DECIDING = ("capture.py", "config_decoding.py", "data", "device.py", "model", "search", "translate")
"""The parts of the package that a translation depends on."""


@cache
def translating_code() -> str:
    """The version, and a hash of the code that decides what a translation is."""
    package = Path(s2s_cli.__file__).parent
    files = sorted(path for part in DECIDING for path in (package / part, *(package / part).glob("*")))
    return f"{s2s_cli.__version__}+{sha256(b''.join(path.read_bytes() for path in files if path.suffix == '.py'))[:12]}"
