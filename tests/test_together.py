"""Alone, in batches, by workers, in ensembles: whatever is asked, the answers are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import toy

from s2s_cli.config import DecodingConfig
from s2s_cli.translate import formats
from s2s_cli.translate.alignment import align
from s2s_cli.translate.entry import Entry, Translation
from s2s_cli.translate.translator import Translator
from s2s_cli.translate.wishes import Term, Wishes, patterns

ENTRIES = [
    Entry("copy a b http://x.de/ c"),
    Entry("reverse c Zürich d e", prefix="h g"),
    Entry(""),
    Entry("copy f", force=("b c", "☃"), forbid=("f",)),
    Entry("reverse a b c d e f g h"),
    Entry("copy f f f 12", forbid=("f f", "a")),
]
WISHES = {
    "force": Wishes(force=("c d",)),
    "forbid": Wishes(forbid=("d", "g h")),
    "terms": Wishes(terms=(Term("f", "g ☃"), Term("a b", "h"))),
    "keep": Wishes(keep=patterns(["urls", "numbers"], [])),
    "copy_unknown": Wishes(copy_unknown=True),
}
OPTIONS: list[dict[str, object]] = [
    {"length_penalty": 3.0},
    {"normalization": "average"},
    {"normalization": "none", "stopping": "exact"},
    {"coverage_penalty": 0.5, "stopping": "early"},
    {"repetition_penalty": 2.0},
    {"no_repeat_ngram": 2},
    {"min_length": 5},
    {"min_length_ratio": 1.5},
    {"max_length": 4},
    {"max_length_ratio": 0.2},
    {"max_source_length": 3},
    {"allow_unknown": True},
    {"mbr": True},
    {"search": "diverse", "diversity": 2.0},
    {"search": "diverse", "beam_groups": 2},
    {"search": "sampling", "temperature": 1.5, "seed": 3},
    {"search": "sampling", "top_k": 3},
    {"search": "sampling", "top_p": 0.7},
    {"search": "sampling", "min_p": 0.2, "mbr": True},
]
WIDTH_KEYS = {"beam", "samples", "n_best", "batch_size"}
# What several models are averaged by has a test of its own; other numbers give other ties.
OTHERWISE = {"ensemble", "precision", "device"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that learned a little, so that much is possible."""
    folder = tmp_path_factory.mktemp("together")
    for name, changes in {
        "one": {},
        "other": {"training__seed": 2, "tokenizer__model": "runs/one/tokenizer/shared.model"},
        "features": toy.of_features(),
    }.items():
        path = toy.write_config(folder, training__max_steps=30, training__validate_every=30, **changes)
        assert toy.invoke("train", "--config", path, "--run", folder / "runs" / name) is None
    return folder


Load = Callable[..., Translator]


@pytest.fixture(scope="module")
def load(runs: Path) -> Load:
    """A translator of some of the runs that tells alignments too."""

    def load(*names: str, wishes: Wishes = Wishes(), **changes: object) -> Translator:
        translator = Translator.load(*(runs / "runs" / name for name in names), **changes)
        translator.wish(wishes)
        translator.look("--alignments")
        return translator

    return load


def of_width(width: int, options: dict[str, object]) -> dict[str, object]:
    """The options, where so many hypotheses are kept and given."""
    return {"samples" if options.get("search") == "sampling" else "beam": width, "n_best": width, **options}


def assert_alike(found: list[list[Translation]], expected: list[list[Translation]]) -> None:
    for group, others in zip(found, expected, strict=True):
        assert [one.text for one in group] == [other.text for other in others]
        assert [one.score for one in group] == pytest.approx([other.score for other in others], abs=1e-4)
        assert [align(one) for one in group] == [align(other) for other in others]


def test_every_option_and_every_wish_is_tried() -> None:
    assert {key for options in OPTIONS for key in options} | WIDTH_KEYS | OTHERWISE == set(DecodingConfig.model_fields)
    assert set(WISHES) == {field.name for field in fields(Wishes)}


def needs_several(options: dict[str, object]) -> bool:
    return bool(options.get("mbr")) or options.get("search") == "diverse"


@pytest.mark.parametrize("width", [1, 4, *(pytest.param(width, marks=pytest.mark.slow) for width in (2, 3, 5, 8, 20))])
def test_batches_give_what_each_line_alone_gives(width: int, load: Load) -> None:
    groups_fit = [options for options in OPTIONS if width % int(str(options.get("beam_groups", 1))) == 0]
    possible = [options for options in groups_fit if width > 1 or not needs_several(options)]
    cases = [(options, Wishes()) for options in possible] + [({}, wishes) for wishes in WISHES.values()]
    for options, wishes in cases:
        translator = load("one", wishes=wishes, **of_width(width, options))
        alone = [translator.translate([entry])[0] for entry in ENTRIES]
        for size in (2, 64):
            translator.config = translator.config.model_copy(update={"batch_size": size})
            assert_alike(translator.translate(ENTRIES[::-1])[::-1], alone)


@pytest.mark.parametrize("combine", ["probabilities", "log-probabilities"])
@pytest.mark.parametrize("wishes", WISHES)
@pytest.mark.parametrize(
    "options",
    [{}, {"search": "sampling", "mbr": True}, {"search": "diverse", "no_repeat_ngram": 2, "min_length": 3}],
    ids=str,
)
def test_ensembles_give_what_each_line_alone_gives_and_a_model_twice_is_the_model(
    options: dict[str, object], wishes: str, combine: str, load: Load
) -> None:
    keys = {**of_width(3, options), "wishes": WISHES[wishes]}
    both = load("one", "other", ensemble=combine, **keys)
    together = both.translate(ENTRIES)
    assert_alike(together, [both.translate([entry])[0] for entry in ENTRIES])
    one = load("one", **keys).translate(ENTRIES)
    assert_alike(load("one", "one", ensemble=combine, **keys).translate(ENTRIES), one)
    assert [group[0].score for group in together] != [group[0].score for group in one]


LINES = [source for source, _ in toy.pairs(150, seed=5)]
OBJECTS = [{"id": number, "source": line, "forbid": "a"} for number, line in enumerate(LINES)]
WORK: dict[str, tuple[list[str], tuple[object, ...]]] = {
    "jsonl": (
        [*(json.dumps(item) for item in OBJECTS), "", "no object", '{"source": "copy http://x.de/", "prefix": "h g"}'],
        ("-m", "other", "--format", "jsonl", "--n-best", 2, "--scores", "--alignments", "--keep", "urls"),
    ),
    "tsv": (
        [f"- {line}. Copy Zürich!\t{number}" for number, line in enumerate(LINES)],
        ("--format", "tsv", "--split", "--scores", "--copy-unknown"),
    ),
    "features": ([], ("--n-best", 2, "--search", "sampling", "--samples", 3, "--scores")),
}


@pytest.mark.parametrize("kind", WORK)
def test_workers_give_what_one_process_gives(kind: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "runs")
    monkeypatch.setattr(formats, "LAST_WINDOW", 20)  # of feature vectors
    lines, options = WORK[kind]
    source = runs / "test.safetensors" if kind == "features" else runs / kind
    if lines:
        source.write_text("".join(f"{line}\n" for line in lines))
    found = []
    for workers in (1, 2):
        output = runs / f"{kind} by {workers}"
        files = "-m", "features" if kind == "features" else "one", "--input", source, "--output", output
        error = toy.invoke("translate", *files, *options, "--workers", workers)
        found.append((output.read_bytes(), str(error)))
    assert found[0] == found[1]
    assert found[0][0].count(b"\n") >= 120


def test_workers_answer_a_pipe_as_one_process_does_a_file(runs: Path) -> None:
    for name, text in (("piped", "\n".join(LINES)), ("prefix", "h g\n\n" * 75), ("terms", "f\tg ☃\n")):
        (runs / name).write_text(text)
    wishes = "--prefix", runs / "prefix", "--terminology", runs / "terms"
    options = "translate", "-m", runs / "runs" / "one", "--n-best", 2, *wishes, "--alignments"
    assert toy.invoke(*options, "--input", runs / "piped", "--output", runs / "whole") is None
    done = toy.s2s(*options, "--workers", 2, cwd=runs, stdin=(runs / "piped").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (runs / "whole").read_bytes()
    assert done.stdout.count(b"\n") == 2 * len(LINES)
