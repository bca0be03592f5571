"""The learning curve on disk: `metrics.jsonl`, one line of figures at each log and each validation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from s2s_cli.files import disk_explained, write_atomically
from s2s_cli.run import read_metrics


class MetricsLog:
    """The file of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, figures: Mapping[str, object]) -> None:
        """Adds a line.

        Raises:
            RunFailed: where the disk refuses.
        """
        with disk_explained(f"cannot write {self.path}"), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def sync(self) -> None:
        """Makes sure that what is written is on the disk, before a checkpoint that relies on it.

        Raises:
            RunFailed: where the disk refuses.
        """
        with disk_explained(f"cannot write {self.path}"), open(self.path, "ab") as file:
            os.fsync(file.fileno())

    def rewind(self, step: int, validated_step: int) -> None:
        """Removes what was logged after the checkpoint of a step: it will be logged again.

        Args:
            step: where the run goes on.
            validated_step: the last validation that the checkpoint knows.

        Raises:
            RunFailed: where the disk refuses.
        """
        if not self.path.exists():
            return
        kept = [
            row
            for row in read_metrics(self.path)
            if row["step"] <= step and not ("scores" in row and row["step"] == step > validated_step)
        ]
        with disk_explained(f"cannot write {self.path}"):
            write_atomically(self.path, "".join(f"{json.dumps(row)}\n" for row in kept).encode())
