"""Write the English-Korean demo corpus: seeded, so the files come out the same everywhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the next import, however this file is loaded

from sentences import draw

SEED = 20170801
# name, number of pairs, percent of long sentences, fewest and most English words of usual and of long ones
SPLITS = (
    ("test_long", 200, 100, (4, 14), (20, 40)),
    ("test", 500, 0, (4, 14), (15, 28)),
    ("valid", 500, 20, (4, 14), (15, 28)),
    ("train", 10_000, 25, (4, 14), (15, 28)),
)


def generate(seed: int = SEED) -> dict[str, list[tuple[str, str]]]:
    """All splits; no source sentence stands twice, in one split or in two."""
    random = Random(seed)
    meaning: dict[str, str] = {}  # every source drawn so far, kept or not
    taken: set[str] = set()
    corpus: dict[str, list[tuple[str, str]]] = {}
    for name, size, percent, usual, extended in SPLITS:
        pairs: list[tuple[str, str]] = []
        long = random.randrange(100) < percent
        while len(pairs) < size:
            english, korean = draw(random, long)
            if meaning.setdefault(english, korean) != korean:
                raise ValueError(f"{english!r} has two translations: {meaning[english]!r} and {korean!r}")
            fewest, most = extended if long else usual
            if english in taken or not fewest <= len(english.split()) <= most:
                continue
            taken.add(english)
            pairs.append((english, korean))
            long = random.randrange(100) < percent
        corpus[name] = pairs
    return corpus


def write(out: Path, seed: int = SEED) -> None:
    """Write every split to `out`, a sentence a line."""
    out.mkdir(parents=True, exist_ok=True)
    for name, pairs in generate(seed).items():
        for side, suffix in enumerate(("en", "ko")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (out / f"{name}.{suffix}").write_bytes(text.encode("utf-8"))


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)"
    )
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
