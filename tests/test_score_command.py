"""`s2s score`: the figures are those of the search and of teacher forcing; N pairs in, N lines out."""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toy

from s2s_cli.forced import losses
from s2s_cli.score.pairs import Total, for_scoring, spells
from s2s_cli.translate.entry import Entry, Translation
from s2s_cli.translate.insight import Insight
from s2s_cli.translate.translator import Translator

TELL = Insight(total=True, tokens=True, alignment=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `toy` and `other`, of one tokenizer and two seeds, half learnt; and `features`."""
    folder = tmp_path_factory.mktemp("score")
    for name, changes in {
        "features": toy.of_features(training__max_steps=40),
        "toy": {"training__max_steps": 40, "tokenizer__type": "unigram", "tokenizer__vocab_size": 26},
        "other": {
            "training__seed": 2,
            "training__max_steps": 40,
            "tokenizer__model": "runs/toy/tokenizer/shared.model",
        },
    }.items():
        path = toy.write_config(folder, **changes)
        done = toy.s2s("train", "--config", path, "--run", f"runs/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


def load(folder: Path, *names: str, **changes: object) -> Translator:
    return Translator.load(*(folder / "runs" / name for name in names), **changes)


def written(folder: Path, path: Path, translator: Translator, rank: int = 0) -> list[Translation]:
    """Translates the test set with all that is told, and writes JSON Lines of one of the n best; blank lines too."""
    translator.look("a test")
    sources = [*(folder / "test.src").read_text(encoding="utf-8").splitlines(), "", "copy zz \u3000 a"]
    found = [items[min(rank, len(items) - 1)] for items in translator.translate(sources)]
    with open(path, "w", encoding="utf-8") as file:
        for source, item in zip(sources, found, strict=True):
            file.write(json.dumps({"source": source, "translation": item.text, **TELL.fields(item)}) + "\n")
    return found


def scored(folder: Path, *options: object, models: tuple[str, ...] = ("toy",)) -> list[dict[str, Any]]:
    names = [word for name in models for word in ("-m", f"runs/{name}")]
    done = toy.s2s("score", *names, "--scores", "--alignments", "--format", "jsonl", *options, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def assert_same(found: list[dict[str, Any]], expected: list[Translation]) -> None:
    for one, item in zip(found, expected, strict=True):
        wanted = TELL.fields(item)
        assert one["alignment"] == wanted["alignment"]
        assert [token["piece"] for token in one["tokens"]] == [token["piece"] for token in wanted["tokens"]]
        scores, others = ([token["score"] for token in side["tokens"]] for side in (one, wanted))
        assert scores == pytest.approx(others, abs=1e-4)
        assert one["log_probability"] == pytest.approx(wanted["log_probability"], abs=1e-4)
        assert one["score"] == pytest.approx(wanted["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("models", "changes", "rank"),
    [
        (("toy",), {"beam": 1}, 0),
        (("toy",), {"beam": 5, "n_best": 5}, 4),
        (("toy",), {"beam": 4, "allow_unknown": True, "normalization": "average", "length_penalty": 0.6}, 0),
        (("toy",), {"beam": 3, "no_repeat_ngram": 1, "min_length": 6}, 0),
        (("toy", "other"), {"beam": 1}, 0),
        (("toy", "other"), {"beam": 4, "n_best": 2}, 1),
        (("toy", "other"), {"beam": 3, "ensemble": "log-probabilities"}, 0),
    ],
    ids=str,
)
def test_the_figures_are_those_of_the_search(
    trained: Path, tmp_path: Path, models: tuple[str, ...], changes: dict[str, Any], rank: int
) -> None:
    expected = written(trained, tmp_path / "said.jsonl", load(trained, *models, **changes), rank)
    ranked = {key: changes[key] for key in ("normalization", "length_penalty") if key in changes}
    if ranked:  # the score's own settings are the run's; there is no option for each
        scorer = for_scoring(load(trained, *models, **ranked))
        scorer.look("a test")
        lines = (json.loads(line) for line in (tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines())
        pairs = zip(lines, expected, strict=True)
        found = scorer.translate([Entry(line["source"], target=item.ids) for line, item in pairs])
        assert_same([TELL.fields(best) for (best,) in found], expected)
    else:
        ensemble = ("--ensemble", changes["ensemble"]) if "ensemble" in changes else ()
        assert_same(scored(trained, "--target", tmp_path / "said.jsonl", *ensemble, models=models), expected)


@pytest.mark.parametrize("beam", [1, 3])
def test_whatever_is_given_is_scored_as_teacher_forcing_does(trained: Path, beam: int) -> None:
    """Random pieces, unknown ones too, and none; of any batch, and whatever else the translator was to do."""
    draw = random.Random(4)
    translator = load(trained, "toy", beam=beam, no_repeat_ngram=2, min_length=3, max_length=4)
    size = len(translator.tokenizer.target)
    sources = [" ".join(draw.choices(toy.WORDS, k=draw.randint(1, 6))) for _ in range(60)]
    targets = [tuple(draw.choice([1, *range(4, size)]) for _ in range(draw.randint(0, 12))) for _ in sources]
    entries = [Entry(source, target=target) for source, target in zip(sources, targets, strict=True)]
    rows = translator.tokenizer.source.encode(sources)
    expected = losses(translator.model, translator.tokenizer, rows, targets, 4096)
    for size in (1, 7, 64):
        for scorer in (translator, for_scoring(translator)):
            scorer.config = scorer.config.model_copy(update={"batch_size": size})
            for (found, *_), target, nll_T in zip(scorer.translate(entries), targets, expected, strict=True):
                assert found.ids == target
                torch.testing.assert_close(torch.tensor(found.token_scores), -nll_T, atol=1e-4, rtol=0)
    assert not any(vars(translator.notices)[name] for name in ("cut",))


def test_text_is_scored_as_evaluate_does(trained: Path, tmp_path: Path) -> None:
    options = ("--source", "test.src", "--target", "test.tgt", "-m", "runs/toy")
    done = toy.s2s("score", *options, "--json", tmp_path / "total.json", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    lines = [float(line) for line in done.stdout.decode().splitlines()]
    total = json.loads((tmp_path / "total.json").read_text(encoding="utf-8"))
    judged = toy.s2s("evaluate", "-m", "runs/toy", "--max", "loss=99", "--json", "-", cwd=trained)
    loss = json.loads(judged.stdout)["scores"]["loss"]["value"]
    assert total["pairs"] == len(lines) == 60
    assert total["log_probability"] == pytest.approx(sum(lines), abs=0.01)
    assert total["loss"] == pytest.approx(loss, abs=1e-5)
    assert total["perplexity"] == pytest.approx(math.exp(loss), abs=1e-4)
    assert f"perplexity {total['perplexity']:.4f}" in done.stderr.decode()
    full = toy.s2s("score", *options, "--scores", "--alignments", "--batch-size", 7, cwd=trained)
    for line, expected in zip(full.stdout.decode().splitlines(), lines, strict=True):
        value, tokens, links = line.split(" ||| ")
        assert float(value) == pytest.approx(expected, abs=2e-4)
        assert tokens.split()[-1].startswith("</s>:")
        assert links


def test_a_source_of_several_lines_is_scored_as_it_was_translated(trained: Path, tmp_path: Path) -> None:
    """With a tokenizer that keeps what it is given, a line feed would be unknown."""
    settings = toy.config(tokenizer__normalization="identity", training__max_steps=5)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "identity.yaml").write_text(json.dumps(settings), encoding="utf-8")
    assert toy.s2s("train", "--config", "identity.yaml", cwd=tmp_path).returncode == 0
    line = json.dumps({"source": "copy a\nb"}).encode()
    options = ("-m", "runs/identity", "--format", "jsonl", "--scores")
    done = toy.s2s("translate", *options, cwd=tmp_path, stdin=line + b"\n")
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "out.jsonl").write_bytes(done.stdout)
    scored = toy.s2s("score", "--target", "out.jsonl", "-m", "runs/identity", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr.decode()
    assert float(scored.stdout) == pytest.approx(json.loads(done.stdout)["log_probability"], abs=2e-3)


def test_the_total_does_not_stand_among_the_scores(trained: Path, tmp_path: Path) -> None:
    options = ("score", "--source", "test.src", "--target", "test.tgt", "-m", "runs/toy", "--json", "-")
    refused = toy.s2s(*options, cwd=trained)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"--json -: the scores stand on standard output" in refused.stderr
    done = toy.s2s(*options, "--output", tmp_path / "scores", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["pairs"] == (tmp_path / "scores").read_bytes().count(b"\n") == 60


def test_blank_sides_have_lines_too(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("copy a\n\n\ncopy a", encoding="utf-8")
    (tmp_path / "target").write_text("a\n\na\n\n", encoding="utf-8")
    found = scored(trained, "--source", tmp_path / "source", "--target", tmp_path / "target")
    assert [len(one["tokens"]) > 0 for one in found] == [True, False, True, True]
    assert found[1]["log_probability"] == 0
    assert [token["piece"] for token in found[3]["tokens"]] == ["</s>"]


def test_json_lines_of_blanks_and_of_several_translations_are_read(trained: Path, tmp_path: Path) -> None:
    pieces = [{"piece": piece} for piece in ("▁", "a", "</s>")]
    several = {"source": "copy a", "translation": "a", "translations": [{"tokens": pieces}, {"tokens": [7]}]}
    alone = {"source": "copy a", "translation": "a", "tokens": pieces}
    lines = [json.dumps(several), "", json.dumps(alone)]
    (tmp_path / "said.jsonl").write_text("\n".join(lines), encoding="utf-8")
    first, blank, last = scored(trained, "--target", tmp_path / "said.jsonl")
    assert first == last
    assert [token["piece"] for token in first["tokens"]] == ["▁", "a", "</s>"]
    assert blank["tokens"] == []


@pytest.mark.parametrize("n_best", [1, 2])
def test_what_translate_writes_as_json_lines_is_scored_as_it_was(trained: Path, tmp_path: Path, n_best: int) -> None:
    lines = [*(trained / "test.src").read_text(encoding="utf-8").splitlines()[:20], "  copy \u3000 zz a"]
    objects = "".join(json.dumps({"source": line}) + "\n" for line in lines) + "\n"
    options = ("-m", "runs/toy", "--format", "jsonl", "--scores", "--alignments", "--n-best", n_best)
    done = toy.s2s("translate", *options, cwd=trained, stdin=objects.encode())
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "said.jsonl").write_bytes(done.stdout)
    said = [json.loads(line) if line else {} for line in done.stdout.decode().split("\n")[:-1]]
    for one, scores in zip(said, scored(trained, "--target", tmp_path / "said.jsonl"), strict=True):
        best = one["translations"][0] if n_best > 1 and one else one
        assert best.get("alignment", []) == scores["alignment"]
        assert best.get("log_probability", 0) == pytest.approx(scores["log_probability"], abs=1e-4)


def test_tokens_of_another_translation_are_refused(trained: Path, tmp_path: Path) -> None:
    tokens = [{"piece": piece} for piece in ("▁", "a", "</s>")]
    rows = [{"source": "copy a", "translation": text, "tokens": tokens} for text in ("a", " a", "b")]
    path = tmp_path / "said.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    done = toy.s2s("score", "-m", "runs/toy", "--target", path, "-o", tmp_path / "out", cwd=trained)
    assert (done.returncode, done.stdout) == (2, b"")
    (message,) = done.stderr.decode().splitlines()
    assert "said.jsonl:3: its tokens do not spell its translation" in message
    assert not (tmp_path / "out").exists()


def test_tokens_that_stand_for_other_words_spell_them_all_the_same(trained: Path) -> None:
    target = load(trained, "toy").tokenizer.target
    unknown = target.specials.unk
    (copy_a,) = target.encode(["copy a"])
    for ids, text, expected in (
        (copy_a, "copy a", True),
        (copy_a, "copy\u3000a ", True),
        (copy_a, "copy", False),
        ([*copy_a, unknown], "copy a Ωmega", True),
        ([unknown, *copy_a, unknown, *copy_a], "x copy a y z copy a", True),
        ([unknown, *copy_a, unknown, *copy_a], "x copy a", False),
        ([unknown, *copy_a], "copy b", False),
        ([unknown, unknown], "", True),
        ([], "", True),
        ([], "a", False),
        (target.encode(["½"])[0], "½", True),
    ):
        assert spells(target, ids, text) is expected, text


def test_no_pairs_lose_nothing() -> None:
    assert str(Total()) == "0 pairs, 0 pieces: log-probability 0.0000, loss 0.0000 nats a piece, perplexity 1.0000"
    assert math.copysign(1, Total(pairs=1, pieces=1).as_json()["loss"]) == 1


def test_each_translation_has_its_perplexity(trained: Path) -> None:
    for one in scored(trained, "--source", "test.src", "--target", "test.tgt"):
        assert one["pieces"] == len(one["tokens"])
        assert one["perplexity"] == pytest.approx(math.exp(-one["log_probability"] / one["pieces"]), rel=1e-4)


def test_features_are_scored(trained: Path) -> None:
    options = ("--source", "test.safetensors", "--target", "test.tgt")
    found = scored(trained, *options, models=("features",))
    translator = load(trained, "features")
    done = toy.s2s("evaluate", "-m", "runs/features", "--max", "loss=99", "--json", "-", cwd=trained)
    pieces = sum(len(one["tokens"]) for one in found)
    loss = -sum(one["log_probability"] for one in found) / pieces
    assert loss == pytest.approx(json.loads(done.stdout)["scores"]["loss"]["value"], abs=1e-5)
    assert translator.tokenizer.target.names(()) == ("</s>",)


def test_attention_of_given_translations_is_written(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    options = ("--source", "test.src", "--target", "test.tgt", "-m", "runs/toy", "--attention", path)
    assert toy.s2s("score", *options, cwd=trained).returncode == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 60
    assert all(len(line["weights"]) == len(line["target"]) for line in lines)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "said.jsonl:2: no object"),
        ("[1]", "said.jsonl:2: no object"),
        ("7", "said.jsonl:2: no object"),
        ('{"source": "a"}', "said.jsonl:2: no object"),
        ('{"translation": "a"}', "without --source"),
        ('{"source": "a", "translation": 7}', "said.jsonl:2: no object"),
        ('{"source": "a", "translation": "a", "tokens": [7]}', "said.jsonl:2: no object"),
        ('{"source": "a", "translation": "a", "tokens": [{"piece": 7}]}', "said.jsonl:2: no object"),
        ('{"source": "a", "translation": "a", "tokens": [{"piece": "xyz"}]}', "no piece 'xyz'"),
        ('{"source": "a", "translation": "", "tokens": [{"piece": "</s>"}, {"piece": "</s>"}]}', "go on after </s>"),
        ("[" * 100_000, "said.jsonl:2: no object"),
    ],
)
def test_a_damaged_line_is_named(trained: Path, tmp_path: Path, line: str, word: str) -> None:
    path = tmp_path / "said.jsonl"
    path.write_text('{"source": "copy a", "translation": "a", "tokens": null}\n' + line + "\n", encoding="utf-8")
    done = toy.s2s("score", "-m", "runs/toy", "--target", path, "-o", tmp_path / "out", cwd=trained)
    assert (done.returncode, done.stdout) == (2, b"")
    (message,) = done.stderr.decode().splitlines()
    assert word in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--target", "test.tgt"), "--source is missing"),
        (("--source", "test.src", "--target", "train.tgt"), "misaligned"),
        (("--source", "no.src", "--target", "test.tgt"), "no.src: cannot read it"),
        (("--source", "test.safetensors", "--target", "test.tgt"), "this model reads lines of text"),
        (("--source", "test.src", "--target", "test.tgt", "--format", "jsno"), "did you mean 'jsonl'"),
        (("--source", "test.src", "--target", "test.tgt", "-o", "x", "--json", "x"), "both would write x"),
    ],
)
def test_what_does_not_fit_exits_with_2(trained: Path, options: tuple[str, ...], word: str) -> None:
    done = toy.s2s("score", "-m", "runs/toy", *options, cwd=trained)
    assert done.returncode == 2
    (message,) = done.stderr.decode().splitlines()
    assert word in message


def test_halves_of_characters_in_json_are_no_text_and_lose_no_line(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"source": "a \\ud83d b", "translation": "b \\udc00"}\n')
    done = toy.s2s("score", "-m", "runs/toy", "--target", tmp_path / "said.jsonl", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 1


def test_packed_scores_are_those_on_standard_output(trained: Path, tmp_path: Path) -> None:
    command = ("score", "-m", "runs/toy", "--source", "test.src", "--target", "test.tgt")
    plain = toy.s2s(*command, cwd=trained)
    assert toy.s2s(*command, "-o", tmp_path / "out.gz", cwd=trained).returncode == 0
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == plain.stdout


def test_features_need_their_file(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_text('{"source": "a", "translation": "a"}\n', encoding="utf-8")
    done = toy.s2s("score", "-m", "runs/features", "--target", tmp_path / "said.jsonl", cwd=trained)
    assert done.returncode == 2
    assert b"--source is missing" in done.stderr
