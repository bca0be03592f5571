"""How long a user waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import ENVIRONMENT, Figures


def measure(run: Path, repeats: int) -> Figures:
    """Medians of fresh processes: `--help`, the import of torch alone, one line translated, and what that adds."""
    program = [sys.executable, "-m", "s2s_cli"]
    commands = {
        "help": ([*program, "--help"], ""),
        "import_torch": ([sys.executable, "-c", "import torch"], ""),
        "translate_one_line": ([*program, "translate", "--model", str(run.resolve())], "hi\n"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats + 1):  # in turn; the first round warms the disk's cache
        for name, (command, text) in commands.items():
            began = time.perf_counter()
            subprocess.run(command, input=text.encode(), capture_output=True, check=True, env=ENVIRONMENT)
            times[name].append(time.perf_counter() - began)
    found = {f"{name}_seconds": round(median(taken[1:]), 3) for name, taken in times.items()}
    above = [one - torch for one, torch in zip(times["translate_one_line"][1:], times["import_torch"][1:], strict=True)]
    return {**found, "translate_beyond_torch_seconds": round(median(above), 3)}
