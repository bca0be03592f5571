"""Decoding by two programs in turns, so that what the machine does meanwhile falls on both.

python -m benchmarks.turns test.en --model runs/a --before ../earlier    # this code, and an earlier checkout of it
python -m benchmarks.turns test.en --model runs/a --model runs/b         # an ensemble, and its first model alone
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import ROOT

SETTINGS = [(1, 64), (5, 64), (1, 256)]  # beam, batch
# It asks nothing but the package of its folder, whatever stood there when: the module's name has changed since.
PROGRAM = """
import json, sys, time
from pathlib import Path
import torch
models, lines, threads = json.loads(sys.stdin.readline())
torch.set_num_threads(threads)
try:
    from s2s_cli.translate.translator import Translator
    parts = models
except ImportError:
    from s2s_cli.run import find_model
    from s2s_cli.translate import Translator
    parts = find_model(Path(models[0]))
for line in sys.stdin:
    beam, batch, first = json.loads(line)
    if first:
        translator = Translator.load(*parts, beam=beam, batch_size=batch, precision="fp32")
        translator.translate(lines)
    began = time.perf_counter()
    translator.translate(lines)
    print(time.perf_counter() - began, flush=True)
"""


class Side:
    """A process of one of the two, that translates when it is asked to."""

    def __init__(self, code: Path, models: list[Path], lines: list[str], threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=code,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say([[str(model.resolve()) for model in models], lines, threads])

    def seconds(self, beam: int, batch: int, *, first: bool = False) -> float:
        """The time of one translation of all lines; the first one of a setting loads, and is made once before."""
        self._say([beam, batch, first])
        assert self._process.stdout
        return float(self._process.stdout.readline())

    def _say(self, words: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Ends the process."""
        self._process.communicate()


def ratios(before: Side, after: Side, beam: int, batch: int, rounds: int) -> list[float]:
    """The times of the one over those of the other, round by round; who begins changes."""
    for side in (before, after):
        side.seconds(beam, batch, first=True)
    found = []
    for number in range(rounds):
        order = (before, after) if number % 2 == 0 else (after, before)
        taken = {side: side.seconds(beam, batch) for side in order}
        found.append(taken[after] / taken[before])
    return sorted(found)


def main() -> None:
    """Prints the median of the ratios of each setting, and its quartiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="lines to translate")
    parser.add_argument("--model", type=Path, action="append", required=True, help="a run; several: an ensemble")
    parser.add_argument("--before", type=Path, default=ROOT, help="a checkout of the code to compare with")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    lines = asked.source.read_text(encoding="utf-8").splitlines()
    before = Side(asked.before.resolve(), asked.model[:1], lines, asked.threads)
    after = Side(ROOT, asked.model, lines, asked.threads)
    for beam, batch in SETTINGS:
        found = ratios(before, after, beam, batch, asked.rounds)
        low, high = found[len(found) // 4], found[-1 - len(found) // 4]
        print(f"beam {beam}, batch {batch}: {median(found):.3f} times as long ({low:.3f} to {high:.3f})", flush=True)
    before.end()
    after.end()


if __name__ == "__main__":
    main()
