"""The pictures of shapes: what is painted is what is said, and a small corpus of them goes through the real command."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
import toy

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ROOT / "data" / "shapes"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"shapes_{name}", SHAPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load("generate")
pictures = GENERATOR.draw_shapes.__globals__  # of the module that it found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    GENERATOR.write(folder, 300, 40)
    return folder


def test_the_same_program_writes_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    GENERATOR.write(tmp_path, 300, 40)
    for path in corpus.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_no_sentence_stands_in_two_splits_and_each_is_of_the_grammar(corpus: Path) -> None:
    sides = {name: (corpus / f"{name}.en").read_text("utf-8").splitlines() for name in ("train", "valid", "test")}
    assert [len(lines) for lines in sides.values()] == [300, 40, 40]
    assert sum(len(set(lines)) for lines in sides.values()) == len(set().union(*sides.values()))
    shape = r"a (small|large) (red|green|blue|yellow|purple|white) (circle|ring|square|triangle|cross)"
    place = r"(at the (top|bottom)( left| right)?|on the (left|right)|in the middle)"
    relation = r"((above|below)( and (left|right) of)?|(left|right) of)"
    sentence = rf"{shape} is ({place}|{relation} {shape}(, and {shape} is {place})?)\."
    for line in (line for lines in sides.values() for line in lines):
        assert re.fullmatch(sentence, line[0].lower() + line[1:]), line
        assert line[0] == "A"


def test_each_shape_is_painted_in_its_cell_in_its_colour_and_size() -> None:
    random, generator = Random(5), np.random.default_rng(5)
    for _ in range(50):
        shapes = pictures["draw_shapes"](random)
        picture = pictures["paint"](shapes, generator)
        cells = {(shape.row, shape.column): shape for shape in shapes}
        assert len(cells) == len(shapes)
        for row in range(3):
            for column in range(3):
                cell = picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                lit = cell[cell.max(axis=2) > 0.45]
                if (row, column) not in cells:
                    assert not len(lit)
                    continue
                shape = cells[row, column]
                brightest = np.sort(lit, axis=0)[-3:].mean(axis=0)
                wanted = pictures["COLOURS"][shape.colour]
                assert np.abs(brightest - wanted).max() < 0.25, (shape, brightest)
                tall = (cell.max(axis=2) > 0.45).any(axis=1).sum()
                assert (tall > 5) == (shape.size == "large"), shape


def test_patches_are_in_reading_order() -> None:
    picture = np.arange(24 * 24 * 3, dtype=np.float32).reshape(24, 24, 3)
    cut = pictures["patches"](picture)
    assert cut.shape == (36, 50)
    scaled = (picture - pictures["MEAN"]) / pictures["DEVIATION"]
    for number in range(36):
        top, left = 4 * (number // 6), 4 * (number % 6)
        np.testing.assert_allclose(cut[number, :48], scaled[top : top + 4, left : left + 4].ravel(), rtol=1e-5)
        np.testing.assert_allclose(cut[number, 48:], [0.6 * (number // 6) - 1.5, 0.6 * (number % 6) - 1.5], atol=1e-6)


def test_what_is_written_has_about_mean_zero_and_deviation_one(corpus: Path) -> None:
    features = safetensors.numpy.load_file(corpus / "train.safetensors")["features"].astype(np.float32)
    assert features.shape == (300, 36, 50)
    assert abs(features.mean()) < 0.1
    assert features.std() == pytest.approx(1, abs=0.1)


def test_the_shipped_config_trains_translates_and_evaluates(corpus: Path, tmp_path: Path) -> None:
    options = ["training.max_steps=4", "training.validate_every=2", "model.encoder.hidden_size=16"]
    for name in ("train", "valid", "test"):
        options.append(f"data.{name}={{source: {corpus}/{name}.safetensors, target: {corpus}/{name}.en}}")
    sets = [word for option in options for word in ("--set", option)]
    done = toy.s2s("train", "--config", ROOT / "configs" / "shapes.yaml", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    done = toy.s2s("translate", "--input", corpus / "test.safetensors", "--beam", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 40
    done = toy.s2s("evaluate", "--beam", 1, "--report", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"bleu" in done.stdout
    assert '"item 39: 36 x 50"' in (tmp_path / "page.html").read_text(encoding="utf-8")
