"""What is asked of translations, in random combinations, of a run that has learnt: counted in the text that the command
gives."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import toy

DRAW = random.Random(7)
WORDS = sorted({"".join(DRAW.choice("abcdeinorstu") for _ in range(DRAW.randint(1, 6))) for _ in range(60)})
STRANGE = ["☃ Ünï", "Haus", "12,5", "ABE", "x-y", "don't", "(so)"]
KEPT = {
    "urls": ["http://x.org/Ä?q=1", "www.abe.de"],
    "emails": ["ab@c.de"],
    "numbers": ["12,5", "7"],
    "tags": ["<b>", "</i>"],
}
TOKENIZERS = {
    "unigram": {"vocab_size": 70},
    "word": {"type": "word", "vocab_size": 90},
    "bytes": {"vocab_size": 320, "byte_fallback": True},
}
SEARCHES = [
    ("--beam", 1),
    ("--beam", 4, "--n-best", 4),
    ("--beam", 5, "--stopping", "exact", "--normalization", "average"),
    ("--search", "diverse", "--beam", 4, "--beam-groups", 2, "--n-best", 3),
    ("--search", "sampling", "--samples", 3, "--n-best", 3),
    ("--search", "sampling", "--samples", 4, "--mbr", "--top-p", 0.9),
    ("--beam", 3, "--no-repeat-ngram", 2, "--min-length", 3),
    ("--beam", 2, "--repetition-penalty", 1.5, "--max-length", 6),
    ("--beam", 3, "--stopping", "early", "--length-penalty", 0),
    ("--beam", 6, "--mbr", "--coverage-penalty", 0.3),
]


def holds(text: str, phrase: str) -> bool:
    """Plain: whether a phrase stands in a text as words of its own."""
    left, right = (r"\b" if phrase[at].isalnum() else "" for at in (0, -1))
    return re.search(left + re.escape(phrase) + right, text) is not None


@dataclass
class Asked:
    """What a command asks of all its lines, and of each."""

    force: list[str]
    forbid: list[str]
    terms: dict[str, str]
    kinds: list[str]
    lines: list[dict[str, object]] = field(default_factory=list)

    def kept(self, source: str) -> list[str]:
        return [word for word in source.split() if any(word in KEPT[kind] for kind in self.kinds)]

    def called(self, source: str) -> list[str]:
        """The targets of the terms of a source, where a longer one hides those within."""
        rest, found = " ".join("|" if word in self.kept(source) else word for word in source.split()).lower(), []
        for term in sorted(self.terms, key=len, reverse=True):
            if holds(rest, term):
                found.append(self.terms[term])
                rest = re.sub(rf"\b{re.escape(term)}\b", "|", rest)
        return found

    def broken(self, line: dict[str, object], text: str) -> list[str]:
        """The promises that a translation does not keep."""
        source = str(line["source"])
        forced, kept = [*self.force, *line["force"], *self.called(source)], self.kept(source)
        found = [f"forced {phrase}" for phrase in forced if not holds(text, phrase)]
        found += [f"forbidden {phrase}" for phrase in (*self.forbid, *line["forbid"]) if holds(text, phrase)]
        found += [f"kept {span}" for span in kept if text.count(span) < kept.count(span)]
        return found + ([] if text.startswith(str(line["prefix"])) else ["prefix"])


def drawn(seed: int, count: int) -> Asked:
    """Wishes that do not contradict each other."""
    draw = random.Random(seed)
    sources = draw.sample(WORDS, 6)
    keys = [*sources[:4], f"{sources[4]} {sources[5]}", sources[5]]
    terms = {key: " ".join(draw.sample([*WORDS, *STRANGE], draw.randint(1, 2))) for key in keys}
    asked = Asked(
        draw.sample([*WORDS, *STRANGE], draw.choice([0, 0, 1])),
        [],
        terms,
        draw.sample(sorted(KEPT), draw.randint(1, 4)),
    )
    spans = [span for kind in KEPT for span in KEPT[kind]]
    free = [word for word in WORDS if not any(holds(text, word) for text in (*terms.values(), *asked.force, *spans))]
    asked.forbid = draw.sample(free, draw.choice([0, 1]))
    for _ in range(count):
        said = [word.capitalize() if draw.random() < 0.1 else word for word in draw.choices([*WORDS, *keys * 5], k=4)]
        source = " ".join([draw.choice(["copy", "reverse"]), *draw.sample([*said, *spans], draw.randint(1, 5))])
        force = [draw.choice([*WORDS, *STRANGE, " ".join(draw.sample(WORDS, 2))]) for _ in range(draw.randint(0, 2))]
        prefix = draw.choice(["", "", draw.choice(WORDS), f"{draw.choice(WORDS)} {draw.choice(WORDS)[:1]}", "Ünï ☃ a"])
        force = [one for one in force if not any(holds(one, other) for other in asked.forbid)]
        prefix = "" if any(holds(prefix, other) for other in asked.forbid) else prefix
        wanted = (prefix, *force, *asked.force, *asked.called(source), *asked.kept(source))
        forbid = [*draw.choices(WORDS, k=draw.randint(0, 2)), " ".join(draw.sample(WORDS, 2))]
        forbid = [one for one in forbid if not any(holds(text, one) for text in wanted)]
        asked.lines.append({"source": source, "prefix": prefix, "force": force, "forbid": forbid})
    return asked


def train(folder: Path, kind: str) -> None:
    """A run that has learnt to copy and to reverse words."""
    draw = random.Random(1)
    for name, count in (("train", 1500), ("valid", 30), ("test", 30)):
        with open(folder / f"{name}.src", "w") as source, open(folder / f"{name}.tgt", "w") as target:
            for _ in range(count):
                task, words = draw.choice(["copy", "reverse"]), draw.sample(WORDS, draw.randint(1, 4))
                source.write(f"{task} {' '.join(words)}\n")
                target.write(f"{' '.join(words if task == 'copy' else words[::-1])}\n")
    settings = {"training__max_steps": 200, "training__validate_every": 200, "training__batch_tokens": 256}
    path = folder / "words.yaml"
    path.write_text(json.dumps(toy.config(**settings, tokenizer=TOKENIZERS[kind])))
    done = toy.s2s("train", "--config", path, "--run", "run", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the run of a tokenizer is; it is trained when it is first asked for."""

    @cache
    def folder(kind: str) -> Path:
        path = tmp_path_factory.mktemp(kind)
        train(path, kind)
        return path

    return folder


def translated(folder: Path, asked: Asked, *options: object) -> list[list[str]]:
    """All translations of each line."""
    (folder / "lines").write_text("".join(f"{json.dumps(line)}\n" for line in asked.lines))
    (folder / "terms").write_text("".join(f"{term}\t{target}\n" for term, target in asked.terms.items()))
    wishes = [part for word in asked.force for part in ("--force", word)]
    wishes += [part for word in asked.forbid for part in ("--forbid", word)]
    wishes += [part for kind in asked.kinds for part in ("--keep", kind)]
    files = ("-m", folder / "run", "--input", folder / "lines", "--output", folder / "output", "--format", "jsonl")
    arguments = ("translate", *files, "--terminology", folder / "terms", *wishes, *options)
    assert toy.invoke(*arguments) is None
    found = [json.loads(line) for line in (folder / "output").read_text().split("\n")[:-1]]
    return [[one["text"] for one in line.get("translations", [{"text": line["translation"]}])] for line in found]


def count_kept(folder: Path, each: int) -> int:
    """In how many cases all promises are kept, of which there are so many for each search."""
    kept = 0
    for seed, options in enumerate(SEARCHES):
        asked = drawn(seed, each)
        for line, texts in zip(asked.lines, translated(folder, asked, *options), strict=True):
            broken = [asked.broken(line, text) for text in texts]
            assert not any(broken), (seed, line, texts, broken)
            kept += 1
    return kept


def test_promises_are_kept_in_the_text(folders: Callable[[str], Path]) -> None:
    assert count_kept(folders("unigram"), 20) == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_promises_are_kept_in_a_thousand_cases(kind: str, folders: Callable[[str], Path]) -> None:
    assert count_kept(folders(kind), 100) == 1000
