"""`s2s plot`: each kind of plot in each format, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toy

from s2s_cli.errors import UserError
from s2s_cli.report import plots
from s2s_cli.run import RunDirectory
from s2s_cli.score.system import AttentionMap

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("plot")
    done = toy.s2s("train", "--config", toy.write_config(folder), cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize(
    ("kind", "ending", "options"),
    [
        ("curve", ".png", ()),
        ("attention", ".svg", ("--text", "copy a b")),
        ("attention", ".png", ("--source", "test.src", "--line", 2)),
        ("length", ".pdf", ("--baseline", "test.tgt")),
        ("rarity", ".svg", ()),
        ("length", ".png", ("--metric", "chrf", "--tokenize", "intl")),
        ("position", ".png", ("--hypothesis", "a=test.src", "--hypothesis", "b=test.tgt", "--reference", "test.tgt")),
    ],
)
def test_each_kind_is_drawn(trained: Path, tmp_path: Path, kind: str, ending: str, options: tuple[str, ...]) -> None:
    path = tmp_path / f"plot{ending}"
    done = toy.s2s("plot", kind, "-o", path, *options, cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert path.read_bytes().startswith(MAGIC[ending])
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("curves", "-o", "a.png"), "did you mean 'curve'"),
        (("curve", "-o", "a.jpeg"), ".png, .svg, .pdf"),
        (("curve", "-o", "missing/a.png"), "cannot be written"),
        (("attention", "-o", "a.png"), "--text"),
        (("attention", "-o", "a.png", "--text", "  "), "--text"),
        (("attention", "-o", "a.png", "--source", "test.src"), "--line N"),
        (("attention", "-o", "a.png", "--source", "test.src", "--line", 61), "--line 61: test.src has 60"),
        (("attention", "-o", "a.png", "--source", "test.src", "--line", 1, "--text", "a"), "of one sentence"),
        (("length", "-o", "a.png", "--line", 1), "--line has no use"),
        (("curve", "-o", "a.png", "--text", "copy a"), "leave it out"),
        (("curve", "-o", "a.png", "--baseline", "runs/toy"), "--baseline has no use with plot curve"),
        (("attention", "-o", "a.png", "--text", "copy a", "--test", "test"), "--test has no use with plot attention"),
        (("length", "-o", "a.png", "--source", "test.src"), "--reference"),
        (("length", "-o", "a.png", "--metric", "ter"), "draws bleu or chrf"),
        (("rarity", "-o", "a.png", "--metric", "chrf"), "--metric has no use with plot rarity"),
        (("curve", "-o", "a.png", "--tokenize", "zh"), "--tokenize has no use with plot curve"),
    ],
)
def test_what_cannot_be_drawn_exits_with_2(trained: Path, arguments: tuple[str, ...], word: str) -> None:
    done = toy.s2s("plot", *arguments, cwd=trained)
    assert done.returncode == 2, done.stderr.decode()
    assert word in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not (trained / "a.png").exists()


def test_an_attention_map_shows_every_weight() -> None:
    weights_TS = torch.rand(3, 4).softmax(1)
    figure = plots.attention(AttentionMap(("a", "b", "c", "</s>"), ("나는", "x", "</s>"), weights_TS))
    axes = figure.axes[0]
    assert torch.equal(torch.tensor(axes.images[0].get_array()), weights_TS)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["나는", "x", "</s>"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", "</s>"]


def test_metrics_of_a_stranger_are_drawn_as_far_as_they_are_numbers(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "loss": 10**400, "scores": {"bleu": "high", "chrf": 10**400, "ter": True}},
        {"step": 2, "loss": 2.0, "scores": [1, 2]},
        {"step": 3, "loss": True, "scores": {"loss": 1.5, "bleu": 30}},
    ]
    losses, scores = plots.learning_curve(rows).axes
    assert [line.get_xydata()[-1].tolist() for line in losses.lines] == [[2, 2.0], [3, 1.5]]
    assert [line.get_label() for line in scores.lines] == ["bleu"]
    plots.save(plots.learning_curve(rows), tmp_path / "a.png")


def test_a_map_of_many_positions_is_bounded_and_its_names_do_not_cover_one_another() -> None:
    found = AttentionMap(tuple(map(str, range(1000))), ("a", "</s>"), torch.full((2, 1000), 0.001))
    figure = plots.attention(found)
    width, height = figure.get_size_inches()
    assert max(width, height) < 40
    ticks = figure.axes[0].get_xticks()
    assert 100 < len(ticks) < 200
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [str(tick) for tick in ticks]


def test_characters_that_no_font_has_are_told() -> None:
    nowhere = "\U0010fffd"  # of a private plane
    figure = plots.attention(AttentionMap(("a", nowhere), (nowhere, "</s>"), torch.full((2, 2), 0.5)))
    assert plots.save(figure, Path("map.svg"))[1] == [nowhere]


def test_a_curve_is_drawn_before_the_first_validation(tmp_path: Path) -> None:
    config = toy.write_config(tmp_path, training__max_steps=1)
    assert toy.invoke("train", "--config", config, "--run", tmp_path / "run") is None
    run = RunDirectory(tmp_path / "run")
    for name in ("best", "last"):
        (run.path / name).unlink()
    run.metrics_path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5}\n')
    done = toy.s2s("plot", "curve", "--model", run.path, "-o", "a.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_curve_is_named_after_its_run() -> None:
    lines = [{"step": 1, "loss": 3.0}, {"step": 1, "scores": {"loss": 2.9, "bleu": 3.0, "chrf": 10.0}}]
    figure = plots.learning_curve(lines, "mine")
    assert figure.get_suptitle() == "mine"
    assert [line.get_label() for line in figure.axes[1].get_lines()] == ["bleu", "chrf"]


def test_a_curve_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        plots.learning_curve([])


def test_without_matplotlib_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 's2s-cli\[plot\]'"):
        plots.check(Path("a.png"))


def test_each_breakdown_is_the_one_asked_for(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, drawn = plots.by_group, []

    def by_group(shown: Any, *metric: Any) -> Any:
        drawn.append([one.name for one in shown.values()])
        return plain(shown, *metric)

    monkeypatch.setattr(plots, "by_group", by_group)
    monkeypatch.chdir(trained)
    for kind in ("length", "rarity", "position"):
        assert toy.invoke("plot", kind, "-o", tmp_path / "a.svg") is None
    assert drawn == [["by length"], ["by rarity"], ["by position"]]
