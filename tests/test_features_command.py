"""The real command on feature vectors: train, translate, evaluate, and one clear line for every mistake."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from s2s_cli.data.features import open_features


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of features, `runs/toy`, and one of text, `runs/text`."""
    folder = tmp_path_factory.mktemp("features")
    for run, changes in (("text", {"training__max_steps": 2}), ("toy", toy.of_features())):
        path = toy.write_config(folder, **changes)
        done = toy.s2s("train", "--config", path, "--run", f"runs/{run}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


def test_training_tells_of_features(trained: Path) -> None:
    log = (trained / "runs" / "toy" / "train.log").read_text(encoding="utf-8")
    assert "unknown pieces in the validation set: target 0.00%" in log
    assert "1,500 training pairs" in log
    assert " x 10\n" in log, "a sample names its item"
    assert [path.name for path in (trained / "runs" / "toy" / "tokenizer").iterdir()] == ["target.model"]


def test_each_item_gives_a_line_in_order(trained: Path, tmp_path: Path) -> None:
    found = list(open_features([trained / "test.safetensors"], 10))
    every = [item.read() for item in found]
    toy.write_vectors(tmp_path / "some.safetensors", [every[5], torch.zeros(0, 10), *every[:3]])
    model = ["--model", trained / "runs" / "toy"]
    done = toy.s2s("translate", *model, "--input", trained / "test.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert len(lines) == len(every) + 1
    assert done.stderr == b""
    some = toy.s2s("translate", *model, "--input", "some.safetensors", "--batch-size", 2, cwd=tmp_path)
    assert some.stdout.decode().split("\n") == [lines[5], "", *lines[:3], ""]
    several = toy.s2s("translate", *model, "-i", "some.safetensors", "--n-best", 2, "--output", "out", cwd=tmp_path)
    assert several.stdout == b""
    rows = [row.split(" ||| ") for row in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]
    assert [row[1] for row in rows[::2]] == [lines[5], "", *lines[:3]]
    np.save(tmp_path / "two.npy", np.stack([item[:2].numpy() for item in every if len(item) >= 2]))
    toy.write_vectors(tmp_path / "two.safetensors", [item[:2] for item in every if len(item) >= 2])
    pair = [toy.s2s("translate", *model, "-i", f"two.{kind}", cwd=tmp_path) for kind in ("npy", "safetensors")]
    assert pair[0].stdout == pair[1].stdout != b""
    done = toy.s2s("translate", *model, "-i", "some.safetensors", "--format", "jsonl", cwd=tmp_path)
    found = [json.loads(row) for row in done.stdout.decode().splitlines()]
    assert found == [{"index": i, "translation": text} for i, text in enumerate([lines[5], "", *lines[:3]])]


def test_no_items_give_no_lines(trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 10), np.float32))
    done = toy.s2s("translate", "--model", trained / "runs" / "toy", "--input", "none.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_mistakes_in_translation_get_one_clear_line(trained: Path, tmp_path: Path) -> None:
    bad = torch.zeros(3, 10)
    bad[1, 2] = math.nan
    toy.write_vectors(tmp_path / "bad.safetensors", [torch.zeros(2, 10), bad])
    toy.write_vectors(tmp_path / "wide.safetensors", [torch.zeros(2, 11)])
    for run, option, words in (
        ("toy", [], "name a file with --input"),
        ("toy", ["--input", "bad.safetensors"], "item 1 (from 0)"),
        ("toy", ["--input", "wide.safetensors"], "11 wide, those of this model 10"),
        ("toy", ["--input", "gone.npy"], "No such file"),
        ("toy", ["--input", trained / "test.src"], "end in .npy or .safetensors"),
        ("toy", ["--input", "bad.safetensors", "--format", "tsv"], "take text or jsonl"),
        ("text", ["--input", trained / "test.safetensors"], "this model reads lines of text"),
    ):
        command = ["translate", "--model", trained / "runs" / run, *option, "--output", "out"]
        done = toy.s2s(*command, cwd=tmp_path, stdin=b"copy a\n")
        assert done.returncode == 2, words
        assert words in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1, done.stderr.decode()
        assert not (tmp_path / "out").exists()


def test_an_evaluation_scores_and_keeps_translations_by_the_content_of_the_features(
    trained: Path, tmp_path: Path
) -> None:
    cache = {"S2S_CACHE": str(tmp_path / "cache")}
    first = toy.s2s("evaluate", "--json", "-", "--max", "loss=100", cwd=trained, **cache)
    assert first.returncode == 0, first.stderr.decode()
    found = json.loads(first.stdout)
    assert found["scores"]["loss"]["value"] < 5
    (item,) = found["evaluations"]
    named = ["--source", trained / "test.safetensors", "--reference", trained / "test.tgt"]
    done = toy.s2s("evaluate", *named, "--json", "-", cwd=trained, **cache)
    assert b"translations taken from the cache" in done.stderr
    (again,) = json.loads(done.stdout)["evaluations"]
    assert again["translations"] == item["translations"]
    assert again["sources_sha256"] == item["sources_sha256"]
    lines = (trained / "test.src").read_text(encoding="utf-8").splitlines()
    toy.write_vectors(tmp_path / "test.safetensors", toy.vectors(lines, seed=2))
    named[1] = tmp_path / "test.safetensors"
    done = toy.s2s("evaluate", *named, "--json", "-", cwd=trained, **cache)
    assert b"cache" not in done.stderr
    assert json.loads(done.stdout)["evaluations"][0]["sources_sha256"] != item["sources_sha256"]


def test_details_and_the_page_tell_of_items(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = toy.s2s("evaluate", "--details", "--report", page, cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert b"vectors of the source" in done.stdout
    assert f'"item 0: {len(open_features([trained / "test.safetensors"], 10)[0])} x 10"' in page.read_text("utf-8")
    translations = ["--hypothesis", "test.tgt", "--source", "test.safetensors", "--reference", "test.tgt"]
    done = toy.s2s("evaluate", *translations, "--details", cwd=trained)
    assert b"vectors of the source" in done.stdout, "files alone are scored too"
    done = toy.s2s("plot", "attention", "--text", "copy a", "--output", tmp_path / "a.png", cwd=trained)
    assert done.returncode == 2
    assert b"give --source FILE --line N" in done.stderr
    named = ["--source", "test.safetensors", "--line", 3]
    done = toy.s2s("plot", "attention", *named, "--output", tmp_path / "a.png", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()


def test_sources_of_another_kind_are_refused(trained: Path) -> None:
    for run, source, words in (
        ("toy", "test.src", "toy reads feature vectors of width 10, the source of test.tgt is text"),
        ("text", "test.safetensors", "text reads text, the source of test.tgt is feature vectors of width 10"),
    ):
        named = ["--model", f"runs/{run}", "--source", source, "--reference", "test.tgt"]
        done = toy.s2s("evaluate", *named, cwd=trained)
        assert done.returncode == 2
        assert words in done.stderr.decode()
    done = toy.s2s("evaluate", "--model", "runs/toy", "--baseline", "runs/text", cwd=trained)
    assert done.returncode == 2
    assert b"text reads text" in done.stderr


def test_training_goes_on_from_other_weights_of_the_same_kind_alone(trained: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    path = toy.write_config(work, **toy.of_features(training__init_from="runs/toy", training__max_steps=1))
    done = toy.s2s("train", "--config", path, "--run", "runs/on", cwd=work)
    assert done.returncode == 0, done.stderr.decode()
    path = toy.write_config(work, **toy.of_features(training__init_from="runs/text", training__max_steps=1))
    done = toy.s2s("train", "--config", path, "--run", "runs/other", cwd=work)
    assert done.returncode == 2
    assert b"source: must be {'kind': 'text'}, as in training.init_from" in done.stderr


def test_mistakes_in_training_data_get_one_clear_line(trained: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("train.tgt", "valid.tgt", "test.tgt", "valid.safetensors", "test.safetensors", "train.src"):
        shutil.copy(trained / name, work)
    every = toy.vectors((work / "train.src").read_text(encoding="utf-8").splitlines())
    spoilt = [*every[:700], every[700] * math.inf, *every[701:]]
    for given, words in ((every[:-1], "ends after 1499"), (spoilt, "item 700 (from 0) holds a value")):
        toy.write_vectors(work / "train.safetensors", given)
        path = toy.write_config(work, **toy.of_features(training__max_epochs=1))
        done = toy.s2s("train", "--config", path, "--fresh", cwd=work)
        assert done.returncode == 2, words
        assert words in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    toy.write_vectors(work / "train.safetensors", every)
    path = toy.write_config(work, **toy.of_features(source__size=9))
    done = toy.s2s("train", "--config", path, "--fresh", cwd=work)
    assert done.returncode == 2
    assert b"its vectors are 10 wide, those of this model 9 (source.size)" in done.stderr
