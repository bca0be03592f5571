"""`s2s average`: the mean is the mean, the new run is a model like others, and what cannot be averaged is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toy

from s2s_cli.average import average_run
from s2s_cli.checkpoint import Checkpoint, load_model, weights
from s2s_cli.errors import UserError
from s2s_cli.run import RunDirectory, find_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a (three checkpoints) and b, tuned from it; c, of another size, and d, of another tokenizer."""
    folder = tmp_path_factory.mktemp("average")
    own = {"tokenizer__model": "runs/a/tokenizer/shared.model"}
    for name, changes in (
        ("a", {"training__keep_last": 3, "training__max_steps": 30}),
        ("b", {**own, "training__init_from": "runs/a", "training__seed": 2, "training__max_steps": 1}),
        ("c", {**own, "model__embedding_size": 16, "training__max_steps": 1}),
        ("d", {"tokenizer__vocab_size": 12, "training__max_steps": 1}),
    ):
        config = toy.write_config(folder, **changes).rename(folder / f"{name}.yaml")
        done = toy.s2s("train", "-c", config, "--run", f"runs/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A folder with the same runs, and the corpus."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a run, or of one of its checkpoints."""
    return weights(load_model(*find_model(path))[2])


def assert_mean(found: dict[str, torch.Tensor], *of: dict[str, torch.Tensor]) -> None:
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, sum(member[name] for member in of) / len(of))


def steps(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([], [0, 1, 2]),
        (["--last", 2], [1, 2]),
        (["--checkpoint", "step-00000010", "--checkpoint", "step-00000030"], [0, 2]),
    ],
)
def test_checkpoints_of_a_run_are_averaged(options: list[object], chosen: list[int], here: Path) -> None:
    done = toy.s2s("average", "--model", "runs/a", *options, "--output", "new/mean", cwd=here)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    members = [steps(here / "runs" / "a")[number] for number in chosen]
    assert_mean(tensors(here / "new" / "mean"), *map(tensors, members))
    for member in members:
        assert member.name in done.stderr.decode()


def test_runs_of_one_start_are_averaged(here: Path) -> None:
    done = toy.s2s("average", "-m", "runs/a", "-m", "runs/b", "-o", "runs/both", cwd=here)
    assert done.returncode == 0, done.stderr.decode()
    assert_mean(tensors(here / "runs" / "both"), tensors(here / "runs" / "a"), tensors(here / "runs" / "b"))
    first = here / "runs" / "a" / "checkpoints" / "step-00000010"
    done = toy.s2s("average", "-m", first, "-m", "runs/b", "-o", "runs/named", cwd=here)
    assert done.returncode == 0, done.stderr.decode()
    assert_mean(tensors(here / "runs" / "named"), tensors(first), tensors(here / "runs" / "b"))


def test_the_mean_is_a_run_that_translates_is_evaluated_and_starts_others_but_is_not_trained_on(
    here: Path, trained: Path
) -> None:
    assert toy.s2s("average", "-m", "runs/a", "-o", "runs/mean", cwd=here).returncode == 0
    shutil.move(here / "runs" / "mean", here / "elsewhere")
    shutil.copytree(here / "elsewhere", here / "runs" / "mean")
    run = RunDirectory(here / "runs" / "mean")
    assert {path.name for path in run.path.iterdir()} == {"config.yaml", "tokenizer", "checkpoints", "best", "last"}
    (checkpoint,) = run.checkpoints_path.iterdir()
    assert (run.path / "last").read_text() == f"{checkpoint.name}\n" == "average-00000030\n"
    source = (here / "test.src").read_bytes()
    translated = toy.s2s("translate", "-m", "elsewhere", cwd=here, stdin=source)
    assert translated.returncode == 0, translated.stderr.decode()
    scored = toy.s2s("evaluate", "-m", "runs/mean", "--output", "out.txt", cwd=here)
    assert scored.returncode == 0, scored.stderr.decode()
    assert (here / "out.txt").read_bytes() == translated.stdout

    for changes in ((), ("--set", "training.max_steps=60")):
        refused = toy.s2s("train", "-c", trained / "a.yaml", "--run", "runs/mean", *changes, cwd=here)
        assert refused.returncode == 2
        assert "training.init_from to runs/mean" in refused.stderr.decode().splitlines()[-1]
        assert "Traceback" not in refused.stderr.decode()
    assert_mean(tensors(run.path), tensors(here / "elsewhere"))
    tuned = toy.write_config(here, training__init_from="runs/mean", training__max_steps=1)
    done = toy.s2s("train", "-c", tuned, "--run", "runs/tuned", cwd=here)
    assert done.returncode == 0, done.stderr.decode()


def test_a_mean_says_of_what(here: Path) -> None:
    assert toy.s2s("average", "-m", "runs/a", "-o", "runs/mean", cwd=here).returncode == 0
    found = json.loads(toy.s2s("info", "runs/mean", "--json", "-", cwd=here).stdout)
    history = found["history"]
    assert (history["state"], history["step"], history["best"]) == ("averaged", 30, None)
    assert not found["checkpoints"][0]["resumable"]
    config, tokenizer, _ = load_model(*find_model(here / "runs" / "a"))
    assert history["origins"] == [
        {"run": "a", "checkpoint": path.name, "sha256": Checkpoint(path, config, tokenizer.fingerprint).model_sha256()}
        for path in steps(here / "runs" / "a")
    ]
    page = toy.s2s("info", "runs/mean", cwd=here).stdout.decode()
    assert page.count("averaged from") == 3 and "a step-00000020" in page


@pytest.mark.parametrize(
    ("models", "changes", "words"),
    [
        ("ac", {}, "runs/c: cannot be averaged with runs/a: model.embedding_size differ"),
        ("ad", {}, "runs/d: cannot be averaged with runs/a: their tokenizers differ"),
        ("aa", {}, "named twice"),
        ("ab", {"last": 2}, "give one --model alone"),
        ("ab", {"names": ["step-00000010"]}, "give one --model alone"),
        ("a", {"last": 4}, "--last 4: runs/a has 3"),
        ("a", {"last": 2, "names": ["step-00000010"]}, "give one of them"),
        ("a", {"names": ["step-00000010"]}, "needs two checkpoints or more"),
        ("a", {"names": ["step-00000010"] * 2}, "named twice"),
        ("a", {"names": ["step-0000020"]}, "did you mean 'step-00000020'?"),
        ("b", {}, "needs two checkpoints or more"),
        ("x", {}, "no such run directory"),
        ("a", {"output": Path("runs/b")}, "something stands there already"),
        ("a", {"output": Path("train.src")}, "something stands there already"),
        ("a", {"output": Path("train.src/new")}, "cannot make"),
        ("a", {"output": Path("n" * 300)}, "cannot make"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    models: str, changes: dict[str, Any], words: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    new = Path("runs/refused")
    asked = {"names": [], "last": None, "output": new, **changes}
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        average_run([Path("runs") / name for name in models], **asked)
    assert len(str(caught.value).splitlines()) == 1
    assert not new.exists()


def test_a_mistake_exits_with_2(trained: Path) -> None:
    for options in (("-m", "runs/a", "-m", "runs/c"), ("-m", "runs/a", "--last", 1)):
        done = toy.s2s("average", *options, "-o", "runs/refused", cwd=trained)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"Traceback" not in done.stderr


def test_a_damaged_checkpoint_is_refused_by_name_and_nothing_is_left(here: Path) -> None:
    damaged = steps(here / "runs" / "a")[1] / "model.safetensors"
    os.truncate(damaged, 100)
    done = toy.s2s("average", "-m", "runs/a", "-o", "runs/mean", cwd=here)
    assert done.returncode == 2
    assert str(damaged.relative_to(here)) in done.stderr.decode()
    assert not (here / "runs" / "mean").exists()


def test_what_was_begun_and_not_done_is_no_run(here: Path) -> None:
    assert toy.s2s("average", "-m", "runs/a", "-o", "runs/mean", cwd=here).returncode == 0
    (here / "runs" / "mean" / "config.yaml").unlink()  # as when it was killed: it is written last
    assert b"no run is here" in toy.s2s("translate", "-m", "runs/mean", cwd=here).stderr
    assert toy.s2s("average", "-m", "runs/a", "-o", "runs/mean", cwd=here).returncode == 0
    assert_mean(tensors(here / "runs" / "mean"), *map(tensors, steps(here / "runs" / "a")))
