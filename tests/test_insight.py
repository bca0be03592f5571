"""What is told beside a translation: scores, alignments, attention; through the real command."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from rich.console import Console

from s2s_cli.errors import UserError
from s2s_cli.report import plots
from s2s_cli.score.system import AttentionMap
from s2s_cli.translate.attention_file import WRITERS, attention_file
from s2s_cli.translate.entry import Translation
from s2s_cli.translate.heat_map import heat_map
from s2s_cli.translate.insight import FIELDS, Insight
from s2s_cli.translate.translator import Translator

SAID = Translation(
    "a b",
    -0.5,
    ids=(4, 5),
    token_scores=(-0.25, -0.5, -0.125),
    source_pieces=("▁x", "y", "</s>"),
    target_pieces=("▁a", "▁b c\u2028", "</s>"),
    attention=torch.tensor([[0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]),
    source_words=((0,), (1,), ()),
    target_words=((0,), (1,), ()),
)
BLANK = Translation("", 0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `toy`, that has learnt to copy and reverse; `other`, of another seed; `blind`, without attention; and
    `features`."""
    folder = tmp_path_factory.mktemp("insight")
    of_toy = {"tokenizer__model": "runs/toy/tokenizer/shared.model"}
    for name, changes in {
        "blind": {"training__max_steps": 2, "model__attention": "none"},
        "features": toy.of_features(training__max_steps=40),
        "toy": {"training__max_steps": 160, "training__validate_every": 80},
        "other": {"training__seed": 2, "training__max_steps": 40, **of_toy},
    }.items():
        path = toy.write_config(folder, **changes)
        done = toy.s2s("train", "--config", path, "--run", f"runs/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


def translated(folder: Path, *options: object, stdin: str = "", run: str = "toy") -> list[list[str]]:
    """The parts of each line."""
    done = toy.s2s("translate", "-m", f"runs/{run}", *options, cwd=folder, stdin=stdin.encode())
    assert done.returncode == 0, done.stderr.decode()
    return [line.split(" ||| ") for line in done.stdout.decode().split("\n")[:-1]]


def test_the_parts_stand_in_their_order() -> None:
    full = Insight(total=True, tokens=True, alignment=True)
    assert full.suffix(SAID) == " ||| -0.8750 ||| ▁a:-0.2500 ▁b▁c▁:-0.5000 </s>:-0.1250 ||| 1-0 0-1"
    assert full.suffix(BLANK) == " ||| 0.0000 |||  ||| "
    assert full.fields(SAID) == {
        "score": -0.5,
        "log_probability": -0.875,
        "pieces": 3,
        "perplexity": round(math.exp(0.875 / 3), 6),
        "tokens": [
            {"piece": "▁a", "score": -0.25},
            {"piece": "▁b c\u2028", "score": -0.5},
            {"piece": "</s>", "score": -0.125},
        ],
        "alignment": [[1, 0], [0, 1]],
    }
    blank = {"score": 0.0, "log_probability": 0.0, "pieces": 0, "perplexity": 1.0, "tokens": [], "alignment": []}
    assert full.fields(BLANK) == blank
    assert Insight().suffix(SAID) == ""
    assert Insight().fields(SAID) == {}
    assert Insight(alignment=True).suffix(SAID) == " ||| 1-0 0-1"


def test_all_that_is_told_is_known_by_name() -> None:
    full = Insight(total=True, tokens=True, alignment=True)
    assert set(full.fields(replace(SAID, utility=50.0))) == set(FIELDS)


def test_a_copy_is_aligned_along_the_diagonal(trained: Path) -> None:
    source = "copy a b c\nreverse  a b c \n\n \ncopy d\n"
    found = translated(trained, "--alignments", stdin=source)
    assert found == [["a b c", "1-0 2-1 3-2"], ["c b a", "3-0 2-1 1-2"], ["", ""], ["", ""], ["d", "1-0"]]


@pytest.mark.parametrize("beam", [1, 4])
def test_figures_do_not_depend_on_the_batch_nor_change_the_text(trained: Path, beam: int) -> None:
    source = (trained / "test.src").read_text(encoding="utf-8") + "\ncopy zz a\n"
    options = ("--beam", beam, "--scores", "--alignments")
    found = translated(trained, *options, stdin=source)
    plain = translated(trained, "--beam", beam, stdin=source)
    assert [line[0] for line in found] == [line[0] for line in plain]
    for size in (1, 7):
        for line, other in zip(found, translated(trained, *options, "--batch-size", size, stdin=source), strict=True):
            assert (line[0], line[3]) == (other[0], other[3])
            assert float(line[1]) == pytest.approx(float(other[1]), abs=2e-4)
    for text, total, tokens, links in found:
        scored = [token.rsplit(":", 1) for token in tokens.split()]
        assert float(total) == pytest.approx(sum(float(score) for _, score in scored), abs=1e-3)
        assert "".join(piece for piece, _ in scored).replace("</s>", "").replace("▁", " ").strip() == text
        assert [int(link.split("-")[1]) for link in links.split()] == list(range(len(text.split())))


def test_each_of_the_n_best_has_its_own(trained: Path) -> None:
    found = translated(trained, "--n-best", 2, "--beam", 3, "--scores", "--alignments", stdin="copy a b\n")
    assert [line[0] for line in found] == ["0", "0"]
    (_, best, _, better, *_), (_, second, _, worse, *_) = found
    assert best == "a b" != second
    assert float(better) > float(worse)
    assert all(len(line) == 6 for line in found)


def test_an_ensemble_tells_too(trained: Path) -> None:
    alone = translated(trained, "--scores", "--alignments", stdin="copy a b\n")
    twice = translated(trained, "-m", "runs/toy", "--scores", "--alignments", stdin="copy a b\n")
    assert alone == twice
    both = translated(trained, "-m", "runs/other", "--scores", "--alignments", stdin="copy a b\n")
    assert both != alone
    assert len(both[0]) == 4


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_attention_is_written_line_by_line(trained: Path, tmp_path: Path, ending: str) -> None:
    path, source = tmp_path / f"attention{ending}", "copy a b\n\nreverse zz b c\n"
    options = ("--attention", path, "--n-best", 2)
    lines = translated(trained, *options, stdin=source)
    translator = Translator.load(trained / "runs" / "toy", n_best=2)
    translator.look("--attention")
    expected = [item for items in translator.translate(source.split("\n")[:-1]) for item in items]
    assert len(lines) == len(expected)
    before = path.read_bytes()
    if ending == ".npz":
        with np.load(path) as file:
            assert len(file.files) == 3 * len(expected)
            rows = [(*file[f"source_{n}"], *file[f"target_{n}"], file[f"weights_{n}"]) for n in range(len(expected))]
    else:
        text = (gzip.decompress(before) if ending.endswith("gz") else before).decode()
        objects = [json.loads(line) for line in text.splitlines()]
        rows = [(*one["source"], *one["target"], np.array(one["weights"])) for one in objects]
    for (*pieces, weights), item in zip(rows, expected, strict=True):
        assert tuple(pieces) == (*item.source_pieces, *item.target_pieces)
        if item.attention is not None:
            np.testing.assert_allclose(weights, item.attention.numpy(), atol=1e-4)
    translated(trained, *options, stdin=source)
    assert path.read_bytes() == before, "the same content makes the same file"


def test_a_file_of_attention_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(KeyError), attention_file(path) as watch:
        watch(SAID)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"\.jsonl\.gz, \.npz"), attention_file(tmp_path / "a.json"):
        pass


def drawn(width: int, colour: bool = False, said: Translation = SAID) -> str:
    assert said.attention is not None
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None
    )
    console.print(heat_map(said.source_pieces, said.target_pieces, said.attention, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_heat_map_shows_tenths_below_the_pieces() -> None:
    said = replace(SAID, source_pieces=("▁나는", "y", "</s>"), target_pieces=("▁a", "▁bc", "</s>"))
    assert drawn(40, said=said).split("\n") == [
        "          <",
        "      ▁   /",
        "     나   s",
        "     는 y >",
        "  ▁a  1 7 2",
        " ▁bc  2 2 6",
        "</s>  · ·10",
        "",
    ]


def test_a_map_wider_than_the_terminal_comes_in_parts() -> None:
    wide = replace(SAID, attention=torch.eye(3, 30), source_pieces=tuple("abcdefghijklmnopqrstuvwxyzABCD"))
    lines = drawn(30, said=wide).split("\n")
    assert max(map(len, lines)) <= 30
    headers = [line.split() for line in lines if re.fullmatch(r"[A-Za-z ]+", line)]
    assert [piece for header in headers for piece in header] == list(wide.source_pieces)
    assert drawn(5, said=wide).count("\n") > 30 * 4  # one column at a time: nothing is lost


def test_colours_are_readable_on_any_background() -> None:
    text = drawn(40, colour=True)
    cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", text)
    assert cells
    for *front, r, g, b in (map(int, cell) for cell in cells):
        assert abs(sum(front) - (r + g + b)) > 250
    assert re.sub(r"\x1b\[[0-9;]*m", "", text) == drawn(40)


def test_no_piece_steers_the_terminal() -> None:
    assert "\x1b" not in drawn(40, said=replace(SAID, target_pieces=("▁\x1b[2J", "\x07", "</s>")))


def test_attention_is_drawn_on_standard_error(trained: Path) -> None:
    done = toy.s2s("translate", "-m", "runs/toy", "--show-attention", cwd=trained, stdin=b"copy a b\n\n")
    assert done.returncode == 0
    assert done.stdout == b"a b\n\n"
    lines = done.stderr.decode().split("\n")
    assert lines[0] == "a b"
    assert [line.split()[0] for line in lines if "·" in line] == ["▁a", "▁b", "</s>"]


@pytest.mark.parametrize("option", ["--alignments", "--show-attention", "--attention=a.npz"])
def test_a_model_without_attention_refuses(trained: Path, option: str) -> None:
    done = toy.s2s("translate", "-m", "runs/blind", option, cwd=trained, stdin=b"copy a\n")
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert option.split("=")[0] in line and "model.attention is none" in line
    assert not (trained / "a.npz").exists()
    scored = toy.s2s("translate", "-m", "runs/blind", "--scores", cwd=trained, stdin=b"copy a\n")
    assert scored.returncode == 0
    assert scored.stdout.count(b" ||| ") == 2


def test_files_that_clash_or_have_no_format_are_refused(trained: Path) -> None:
    for options in (("--attention", "a.txt"), ("--attention", "a.npz", "-o", "a.npz"), ("--attention", "no/a.npz")):
        done = toy.s2s("translate", "-m", "runs/toy", *options, cwd=trained, stdin=b"copy a\n")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.count(b"\n") == 1


def test_words_are_aligned_to_positions_of_features(trained: Path) -> None:
    found = translated(trained, "--input", "test.safetensors", "--alignments", run="features")
    lengths = [len(line.split()) for line in (trained / "test.src").read_text(encoding="utf-8").splitlines()]
    for (text, links), length in zip(found, lengths, strict=True):
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert [word for _, word in pairs] == list(range(len(text.split())))
        assert all(0 <= position < length for position, _ in pairs)


def test_the_plot_shows_what_the_search_looked_at(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    plain, drawn = plots.attention, []

    def attention(shown: AttentionMap) -> Any:
        drawn.append(shown)
        return plain(shown)

    monkeypatch.setattr(plots, "attention", attention)
    assert toy.invoke("plot", "attention", "--text", "copy a b", "-m", "runs/toy", "-o", "a.svg") is None
    (shown,) = drawn
    translator = Translator.load("runs/toy")
    translator.look("this test")
    found = translator.translate_one("copy a b")
    assert (shown.source, shown.target) == (found.source_pieces, found.target_pieces)
    assert found.attention is not None
    torch.testing.assert_close(shown.weights_TS, found.attention)
    refused = toy.s2s("plot", "attention", "--text", "copy a b", "-m", "runs/blind", "-o", "b.svg", cwd=tmp_path)
    assert refused.returncode == 2
    assert b"plot attention: this model has no attention" in refused.stderr
