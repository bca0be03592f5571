"""Finished figures, a JSON file each; a training's translations beside it, compressed."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims.experiments import Figure
from s2s_cli.files import write_atomically


@dataclass(frozen=True)
class Store:
    """A folder of figures. A figure is there when its JSON is: that is written last, and whole."""

    folder: Path

    def has(self, figure: Figure) -> bool:
        return self._json(figure).exists()

    def get(self, figure: Figure) -> dict[str, Any] | None:
        """What was kept of a figure; None where it is not there."""
        if not self.has(figure):
            return None
        content: dict[str, Any] = json.loads(self._json(figure).read_bytes())
        return content

    def translations(self, figure: Figure) -> list[str]:
        """Of a training's test set, line by line."""
        return lzma.decompress(self._lines(figure).read_bytes()).decode("utf-8").split("\n")[:-1]

    def put(self, figure: Figure, content: dict[str, Any], lines: Sequence[str] = ()) -> None:
        """Keeps a figure."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if lines:
            write_atomically(self._lines(figure), lzma.compress("".join(f"{line}\n" for line in lines).encode()))
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(self._json(figure), f"{text}\n".encode())

    def _json(self, figure: Figure) -> Path:
        return self.folder / f"{figure.name}.json"

    def _lines(self, figure: Figure) -> Path:
        return self.folder / f"{figure.name}.txt.xz"
