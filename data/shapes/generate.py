"""Write the shapes corpus: pictures as feature vectors, and their descriptions; seeded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the next import, however this file is loaded

from pictures import describe, draw_shapes, paint, patches

SEED = 20210205
TRAIN, HELD_OUT = 12_000, 500


def write(out: Path, train: int = TRAIN, held_out: int = HELD_OUT) -> None:
    """Write {test,valid,train}.{safetensors,en} to `out`; no picture of the test is described in training."""
    out.mkdir(parents=True, exist_ok=True)
    random, generator = Random(SEED), np.random.default_rng(SEED)
    seen: set[str] = set()
    for name, size in (("test", held_out), ("valid", held_out), ("train", train)):
        pictures, sentences = [], []
        while len(sentences) < size:
            shapes = draw_shapes(random)
            if describe(shapes) in seen:
                continue
            pictures.append(patches(paint(shapes, generator)).astype(np.float16))
            sentences.append(describe(shapes))
        seen |= set(sentences)
        save_file({"features": np.stack(pictures)}, out / f"{name}.safetensors")
        (out / f"{name}.en").write_bytes("".join(f"{sentence}\n" for sentence in sentences).encode())


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: this one)")
    parser.add_argument("--train", type=int, default=TRAIN, help="training pictures")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="pictures for validation, and for the test")
    given = parser.parse_args()
    write(given.out, given.train, given.held_out)


if __name__ == "__main__":
    main()
