"""Translations kept on disk, so that scoring the same model on the same text again decodes nothing.

They lie in the user's own folder, not in the run: a run may come from a stranger, and what it claims to have
translated is not taken on trust.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from s2s_cli.files import json_sha256, write_atomically

ENVIRONMENT = "S2S_CACHE"


def folder() -> Path:
    """`$S2S_CACHE`, else the folder for caches of the system; where a user has none, one that cannot be written to."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/nonexistent")) / ".cache") / "s2s"


class Kept(NamedTuple):
    """Translations, and what was noticed while they were made."""

    translations: tuple[str, ...]
    notices: dict[str, int]


class TranslationCache:
    """One file for each model, decoding and source: whatever could change a translation is in its name's hash."""

    def __init__(self, path: Path) -> None:
        self.path = path / "translations"

    def get(self, key: Mapping[str, Any], lines: int) -> Kept | None:
        """What is kept under a key; None where nothing is, or it is damaged."""
        try:
            content = json.loads(self._file(key).read_bytes())
            found = Kept(tuple(content["translations"]), {name: int(n) for name, n in content["notices"].items()})
            if content["key"] != key or content["sha256"] != json_sha256(found) or len(found.translations) != lines:
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return found

    def put(self, key: Mapping[str, Any], found: Kept) -> None:
        """Keeps translations; a folder that cannot be written to is no reason to fail."""
        content = {"key": key, "sha256": json_sha256(found), **found._asdict()}
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file(key), json.dumps(content, ensure_ascii=False).encode())

    def _file(self, key: Mapping[str, Any]) -> Path:
        return self.path / f"{json_sha256(key)}.json"
