"""The searches by the real command: every option does something, contradictions are refused in words."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import toy

from s2s_cli.cli import translate as module
from s2s_cli.config_decoding import _LOOKED_AT_BY, DecodingConfig
from s2s_cli.errors import UserError
from s2s_cli.search.searches import SEARCHES

LINES = b"copy a b\n\nreverse c d e f\ncopy a b\ncopy h g f e\nreverse a\n"
COUNT = LINES.count(b"\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that hardly learned, so that much is possible: of a plain config, and of ones with searches of their own."""
    folder = tmp_path_factory.mktemp("searches")
    own = {
        "plain": {},
        "other": {"training__seed": 2, "tokenizer__model": "runs/plain/tokenizer/shared.model"},
        "greedy": {"decoding__beam": 1, "decoding__stopping": "early", "model__attention": "none"},
        "diverse": {
            "decoding": {"search": "diverse", "beam": 6, "beam_groups": 3, "diversity": 0.7, "n_best": 4, "mbr": True},
            "training__validation_beam": 1,
        },
        "sampling": {"decoding": {"search": "sampling", "samples": 4, "n_best": 4, "top_k": 9, "seed": 5, "mbr": True}},
        "sampling validated": {"decoding": {"search": "sampling", "top_p": 0.9}, "training__validation_beam": 2},
        "features": toy.of_features(),
    }
    for name, changes in own.items():
        short = {"training__max_steps": 4, "training__validate_every": 4}
        path = toy.write_config(folder, **short, **changes)
        assert toy.invoke("train", "--config", path, "--run", folder / "runs" / name) is None
    return folder


def translate(runs: Path, *options: object, model: str = "plain") -> list[str]:
    (runs / "lines").write_bytes(LINES)
    files = "--input", runs / "lines", "--output", runs / "output"
    assert toy.invoke("translate", "-m", runs / "runs" / model, *files, *options) is None
    return (runs / "output").read_text(encoding="utf-8").split("\n")[:-1]


def refusal(runs: Path, *options: object, model: str = "plain") -> str:
    """What the user reads; `test_cli.py` holds that it goes to standard error, with exit code 2."""
    error = toy.invoke("translate", "-m", runs / "runs" / model, "--input", runs / "test.src", *options)
    assert isinstance(error, UserError), error
    (line,) = str(error).splitlines()
    return line


@pytest.mark.parametrize(
    "options",
    [
        ("--search", "diverse", "--beam", 6, "--beam-groups", 3, "--diversity", 2, "--n-best", 6),
        ("--search", "sampling"),
        ("--search", "sampling", "--samples", 9, "--n-best", 9),
        ("--search", "sampling", "--temperature", 2),
        ("--search", "sampling", "--top-k", 3),
        ("--search", "sampling", "--top-p", 0.5),
        ("--search", "sampling", "--min-p", 0.5),
        ("--search", "sampling", "--seed", 8),
        ("--search", "sampling", "--samples", 20, "--mbr"),
        ("--normalization", "average", "--length-penalty", 3, "--beam", 5, "--stopping", "exact"),
        ("--coverage-penalty", 2, "--beam", 5),
        ("--stopping", "early", "--length-penalty", 5),
        ("--repetition-penalty", 9),
        ("--no-repeat-ngram", 1),
        ("--min-length", 9),
        ("--min-length-ratio", 2),
        ("--max-length", 2),
        ("--max-length-ratio", 0.1, "--min-length", 12),
        ("--max-source-length", 2),
    ],
    ids=str,
)
def test_each_option_says_something_else_for_each_line_and_again_the_same(
    options: tuple[object, ...], runs: Path
) -> None:
    found = translate(runs, *options)
    n_best = int(options[options.index("--n-best") + 1]) if "--n-best" in options else 1
    assert len(found) == n_best * COUNT
    assert translate(runs, *options, "--batch-size", 1) == found
    if n_best == 1:
        assert found[1] == ""
        assert found[0] == found[3], "equal sources are translated equally"


def test_every_key_of_the_section_is_an_option() -> None:
    assert set(DecodingConfig.model_fields) <= set(inspect.signature(module.translate).parameters)


def test_what_is_asked_for_is_what_comes(runs: Path) -> None:
    plain = translate(runs)
    assert translate(runs, "--search", "sampling") != plain
    assert translate(runs, "--search", "sampling", "--seed", 3) != translate(runs, "--search", "sampling", "--seed", 4)
    assert translate(runs, "--search", "sampling", "--top-k", 1) == translate(runs, "--beam", 1)
    assert all(len(line.split()) >= 9 for line in translate(runs, "--min-length", 9) if line)
    assert all(len(line.split()) <= 1 for line in translate(runs, "--max-length", 2))
    for line in translate(runs, "--no-repeat-ngram", 1, "--min-length", 4):
        assert len(set(line.split())) == len(line.split())
    rows = [
        row.split(" ||| ")
        for row in translate(runs, "--search", "diverse", "--beam", 4, "--n-best", 4, "--diversity", 9)
    ]
    texts = [text for index, text, _ in rows if index == "0"]
    assert len({*texts}) == 4


@pytest.mark.parametrize("model", ["plain", "greedy", "diverse", "sampling", "sampling validated"])
@pytest.mark.parametrize("search", ["beam", "diverse", "sampling"])
def test_another_search_alone_works_whatever_the_run_does_by_itself(search: str, model: str, runs: Path) -> None:
    own = translate(runs, model=model)
    found = translate(runs, "--search", search, model=model)
    assert len(found) == (len(own) if model in (search, f"{search} validated") else COUNT)


@pytest.mark.parametrize(
    "options",
    [
        ("--beam", 3, "--n-best", 3),
        ("--search", "diverse", "--beam", 3, "--n-best", 3),
        ("--search", "sampling", "--samples", 3, "--n-best", 3),
        ("--search", "sampling", "--samples", 8, "--mbr", "--n-best", 3),
        ("--beam", 3, "--n-best", 3, "--coverage-penalty", 0.3, "--no-repeat-ngram", 2, "--min-length", 2),
    ],
    ids=str,
)
def test_an_ensemble_searches_in_every_way(options: tuple[object, ...], runs: Path) -> None:
    options = "-m", runs / "runs" / "other", *options
    both = translate(runs, *options)
    assert len(both) == 3 * COUNT
    assert translate(runs, *options, "--batch-size", 1) == both
    assert both != translate(runs, *options[2:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--search", "sampling", "--samples", 3, "--n-best", 4), "raise samples, or lower n_best"),
        (("--search", "sampling", "--samples", 1, "--mbr"), "raise samples"),
        (("--search", "diverse", "--beam", 5, "--beam-groups", 2), "set beam to 4"),
        (("--search", "diverse", "--beam", 3, "--beam-groups", 7), "set beam to 7"),
        (("--min-length", 9, "--max-length", 9), "lower min_length, or raise max_length"),
        (("--min-length-ratio", 3, "--max-length-ratio", 2), "lower the one, or raise the other"),
        (("--mbr", "--beam", 1), "raise beam, now 1"),
        (("--n-best", 3), "raise beam, or lower n_best"),
        (("--search", "samplign"), "did you mean 'sampling'?"),
        (("--normalization", "averge"), "did you mean 'average'?"),
        (("--stopping", "never"), "known: early, full, exact"),
        (("--top-p", 0, "--search", "sampling"), "decoding.top_p"),
        (("--min-p", 1, "--search", "sampling"), "decoding.min_p"),
        (("--temperature", 0, "--search", "sampling"), "decoding.temperature"),
        (("--repetition-penalty", 0.5), "decoding.repetition_penalty"),
    ],
    ids=str,
)
def test_contradictions_are_refused_in_one_line(options: tuple[object, ...], words: str, runs: Path) -> None:
    assert words in refusal(runs, *options)


OTHER = {
    **{"beam": 3, "stopping": "exact", "beam_groups": 2, "diversity": 2, "samples": 5, "temperature": 0.5, "top_k": 5},
    **{"top_p": 0.5, "min_p": 0.5, "seed": 5},
}
USELESS = [(search, key) for key, useful in _LOOKED_AT_BY.items() for search in SEARCHES if search not in useful]


@pytest.mark.parametrize(("search", "key"), USELESS)
def test_what_a_search_does_not_look_at_is_refused(search: str, key: str, runs: Path) -> None:
    told = refusal(runs, "--search", search, f"--{key.replace('_', '-')}", OTHER[key])
    searches = " or ".join(_LOOKED_AT_BY[key])
    assert told == f"decoding: {key} has no use with search {search}: leave it out, or set search to {searches}"


@pytest.mark.parametrize(("search", "key"), USELESS)
def test_that_it_is_given_counts_and_not_its_value(search: str, key: str, runs: Path) -> None:
    default = DecodingConfig.model_fields[key].default
    told = refusal(runs, "--search", search, f"--{key.replace('_', '-')}", OTHER[key] if default is None else default)
    assert f"{key} has no use with search {search}" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--normalization", "none", "--length-penalty", 1), "set normalization to gnmt"),
        (("--search", "diverse", "--beam", 1), "raise beam, or set search to beam"),
        (("--ensemble", "probabilities"), "ensemble has no use with one model"),
    ],
    ids=str,
)
def test_what_is_given_and_has_no_use_is_refused(options: tuple[object, ...], words: str, runs: Path) -> None:
    assert words in refusal(runs, *options)


def test_the_other_commands_refuse_what_has_no_use_too(runs: Path) -> None:
    model, source, target = ("-m", runs / "runs" / "sampling"), runs / "test.src", runs / "test.tgt"
    evaluate = "evaluate", *model, "--beam", 5, "--source", source, "--reference", target
    score = "score", *model, "--ensemble", "probabilities", "--source", source, "--target", target
    plot = "plot", "attention", *model, *model, "--text", "copy a", "-o", runs / "map.svg"
    for command, words in (
        (evaluate, "beam has no use with search sampling"),
        (score, "ensemble has no use with one model"),
        (plot, "--model: given twice"),
        (("evaluate", *model, *model), "--model: given twice"),
        (("plot", "curve", *model, "--test", "a", "--test", "b", "-o", runs / "map.svg"), "--test: given twice"),
    ):
        error = toy.invoke(*command)
        assert isinstance(error, UserError) and words in str(error), command


def test_a_config_may_list_what_has_no_use_as_it_is_by_default() -> None:
    listed = DecodingConfig(normalization="none").model_dump()
    assert DecodingConfig.model_validate(listed).model_dump() == listed
    DecodingConfig(search="diverse", beam=1)


TO_FILE = ("--output", "out")
VECTORS = ("--input", "test.safetensors")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("plain", ("--fresh",), "only a translation of an --input FILE to an --output FILE"),
        ("plain", ("--fresh", *TO_FILE, "--attention", "a.npz"), "without --attention and --show-attention"),
        ("plain", ("--fresh", *TO_FILE, "--show-attention"), "without --attention and --show-attention"),
        ("plain", ("--workers", 2, "--attention", "a.npz"), "leave them out, or --workers"),
        ("plain", ("--workers", 2, "--show-attention"), "leave them out, or --workers"),
        ("plain", ("--attention", "a.npz", "--output", "a.npz"), "--output and --attention: both would write a.npz"),
        ("plain", ("--field", "text"), "add --format jsonl"),
        ("plain", ("--format", "tsv", "--field", "text"), "add --format jsonl"),
        ("plain", ("--format", "jsonl", "--field", "force"), "give the source another name"),
        ("plain", ("--language", "de"), "add --split"),
        ("plain", ("--split", "--n-best", 2), "join the best with --n-best 1"),
        ("plain", ("--split", "--prefix", "prefixes"), "leave one out"),
        ("plain", ("--force", "a b", "--forbid", "b"), "'a b' is forced (or kept), but 'b' in it is forbidden"),
        ("plain", ("--terminology", "terms", "--forbid", "c"), "'b c' is forced (or kept), but 'c' in it is"),
        ("plain", ("--keep-pattern", "[a-h]", "--forbid", "a"), "'a' is forced (or kept), but 'a' in it is"),
        ("plain", ("--prefix", "prefixes", "--forbid", "b"), "line 1: the prefix 'b' holds 'b', which is forbidden"),
        ("plain", VECTORS, "this model reads lines of text"),
        ("greedy", ("--copy-unknown",), "--copy-unknown needs attention"),
        ("greedy", ("--alignments",), "--alignments: this model has no attention"),
        ("greedy", ("--attention", "a.npz"), "--attention: this model has no attention"),
        ("greedy", ("--show-attention",), "--show-attention: this model has no attention"),
        ("features", (*VECTORS, "--split"), "--split divides text"),
        ("features", (*VECTORS, "--format", "tsv"), "take text or jsonl"),
        ("features", (*VECTORS, "--format", "jsonl", "--field", "text"), "--field names text"),
        ("features", (*VECTORS, "--keep", "urls"), "need a source of text"),
        ("features", (*VECTORS, "--terminology", "terms"), "need a source of text"),
        ("features", (*VECTORS, "--copy-unknown"), "need a source of text"),
        ("features", (), "feature vectors are read from files that end in .npy or .safetensors"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_or_the_model_are_refused(
    model: str, options: tuple[object, ...], words: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    Path("prefixes").write_text("b\n" * len(Path("test.src").read_text().splitlines()))
    Path("terms").write_text("a\tb c\n")
    assert words in refusal(runs, *options, model=model)
    assert not any(Path(name).exists() for name in ("out", "out.part", "a.npz"))


def test_no_output_overwrites_what_is_read(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (runs / "test.src").read_bytes()
    given = dict.fromkeys(("in", "ref", "in.jsonl", "terms", "prefixes"), lines) | {"terms": b"a\tb\n"}
    for name, content in given.items():
        Path(name).write_bytes(content)
    Path("link").symlink_to("in")
    Path("same").hardlink_to("in")
    model = "-m", runs / "runs" / "plain"
    translate, score, evaluate = (("translate", *model), ("score", *model), ("evaluate", *model))
    pair = "--source", "in", "--reference", "ref"
    for command, words in (
        ((*translate, "-i", "in", "-o", "in"), "--input and --output"),
        ((*translate, "-i", "in", "-o", "./link"), "--input and --output"),
        ((*translate, "-i", "link", "-o", "in"), "--input and --output"),
        ((*translate, "-i", "same", "-o", "in"), "--input and --output"),
        ((*translate, "-i", "in.jsonl", "--attention", "in.jsonl"), "--input and --attention"),
        ((*translate, "-i", "in", "-o", "prefixes", "--prefix", "prefixes"), "--prefix and --output"),
        ((*translate, "-i", "in", "-o", "terms", "--terminology", "terms"), "--terminology and --output"),
        ((*score, "--source", "in", "--target", "ref", "-o", "in"), "--source and --output"),
        ((*score, "--source", "in", "--target", "ref", "--json", "ref"), "--target and --json"),
        ((*evaluate, *pair, "--output", "in"), "--source and --output"),
        ((*evaluate, *pair, "--report", "ref"), "--reference and --report"),
        (("evaluate", "--hypothesis", "a=in", "--reference", "ref", "--json", "in"), "--hypothesis and --json"),
        ((*evaluate, "--output", runs / "test.tgt"), "test set test and --output"),
    ):
        error = toy.invoke(*command)
        assert isinstance(error, UserError) and words in str(error), command
    assert {name: Path(name).read_bytes() for name in given} == given
    assert toy.invoke(*translate, "-i", "/dev/null", "-o", "/dev/null") is None, "a device holds nothing"


def test_the_command_itself(runs: Path) -> None:
    options = "translate", "-m", "runs/plain", "--search", "sampling", "--samples", 3
    done = toy.s2s(*options, "--n-best", 3, cwd=runs, stdin=LINES)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == translate(runs, *options[3:], "--n-best", 3)
    done = toy.s2s(*options, "--n-best", 4, cwd=runs, stdin=LINES)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1


def test_coverage_needs_attention(runs: Path) -> None:
    assert "attention none" in refusal(runs, "--coverage-penalty", 0.2, model="greedy")
    path = toy.write_config(runs, model__attention="none", decoding__coverage_penalty=0.2)
    error = toy.invoke("train", "--config", path, "--run", runs / "blind")
    assert "decoding.coverage_penalty needs attention" in str(error)


def test_mbr_can_be_left_out_of_a_run_that_has_it(runs: Path) -> None:
    with_it, without = translate(runs, model="sampling"), translate(runs, "--no-mbr", model="sampling")
    assert len(with_it) == len(without) == 4 * COUNT
    scores = [float(row.rsplit(" ||| ", 1)[1]) for row in without[:4]]
    assert scores == sorted(scores, reverse=True)


def test_the_utility_stands_beside_the_score_wherever_that_does(runs: Path) -> None:
    options = "--search", "sampling", "--samples", 9, "--mbr"
    rows = [row.split(" ||| ") for row in translate(runs, *options, "--n-best", 3)]
    for number in range(COUNT):
        found = [float(utility) for index, _, _, utility in rows if index == str(number)]
        assert len(found) == 3 and found == sorted(found, reverse=True)
        assert max(found) > 0 or number == 1, "the blank line"
    (runs / "rows.jsonl").write_text("".join(f'{{"source": "{line}"}}\n' for line in LINES.decode().splitlines()))
    json_lines = "--input", runs / "rows.jsonl", "--format", "jsonl"
    several = [json.loads(line) for line in translate(runs, *options, "--n-best", 3, *json_lines)]
    told = [[f"{one[name]:.4f}" for name in ("score", "utility")] for line in several for one in line["translations"]]
    assert told == [row[2:] for row in rows]
    for line, own in zip(translate(runs, *options, "--scores", *json_lines), several, strict=True):
        assert json.loads(line)["utility"] == pytest.approx(own["translations"][0]["utility"], abs=1e-4)
    assert "utility" not in "".join(translate(runs, *options[:-1], "--n-best", 3, "--scores", *json_lines))


def test_features_are_sampled_by_what_they_hold(runs: Path, tmp_path: Path) -> None:
    options = "--input", runs / "test.safetensors", "--search", "sampling", "--samples", 2, "--n-best", 2
    found = []
    for size in (1, 64):
        output = tmp_path / f"output {size}"
        model = "-m", runs / "runs" / "features"
        assert toy.invoke("translate", *model, *options, "--batch-size", size, "-o", output) is None
        found.append(output.read_text(encoding="utf-8"))
    assert found[0] == found[1]
    assert found[0].count("\n") == 2 * len((runs / "test.tgt").read_text().splitlines())


@pytest.mark.parametrize("model", ["diverse", "sampling"])
def test_a_run_is_evaluated_as_it_decodes(model: str, runs: Path) -> None:
    files = "--source", runs / "test.src", "--reference", runs / "test.tgt"
    report = runs / "scores.json"
    assert toy.invoke("evaluate", "-m", runs / "runs" / model, *files, "--no-cache", "--json", report) is None
    hypotheses = runs / "hypotheses"
    options = "--input", runs / "test.src", "--output", hypotheses, "--n-best", 1
    assert toy.invoke("translate", "-m", runs / "runs" / model, *options) is None
    again = runs / "again.json"
    of_file = "--hypothesis", hypotheses, "--reference", runs / "test.tgt", "--tokenize", "none"
    assert toy.invoke("evaluate", *of_file, "--json", again) is None
    scores = [json.loads(path.read_text())["scores"]["chrf"]["value"] for path in (report, again)]
    assert scores[0] == pytest.approx(scores[1])
