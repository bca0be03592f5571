"""Checkpoints and the run directory: what was saved comes back, what is damaged is refused, and no crash loses any."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s2s_cli import checkpoint as module
from s2s_cli.checkpoint import (
    LATER,
    Checkpoint,
    average,
    check_fits,
    identity,
    load_model,
    load_weights,
    prune,
    save,
    weights,
)
from s2s_cli.config import CHANGEABLE, Config
from s2s_cli.config_file import parse_config
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.errors import RunFailed, UserError
from s2s_cli.files import sha256
from s2s_cli.manifest import MANIFEST, MODEL, STATE, TRAINING
from s2s_cli.model.recurrent import CELLS
from s2s_cli.model.seq2seq import Seq2Seq, build_model
from s2s_cli.run import FORMAT, RunDirectory, find_model, record_latest
from s2s_cli.train.metrics import MetricsLog
from s2s_cli.yaml12 import MAX_CHARACTERS

SETTINGS: dict[str, Any] = {
    "data": {"train": {"source": "a", "target": "b"}, "valid": {"source": "c", "target": "d"}},
    "tokenizer": {"vocab_size": 60},
    "model": {
        "encoder": {"cell": "gru", "hidden_size": 3},
        "decoder": {"cell": "gru", "hidden_size": 6},
        "embedding_size": 4,
        "tie_embeddings": "all",
    },
    "training": {"max_steps": 10},
}
TRAINED = {"weight.x": torch.arange(6.0).view(2, 3), "optimizer.x.step": torch.tensor(7.0)}
STATES = {"progress": {"step": 3, "best": 12.5, "best_checkpoint": None}, "random": {"cpu": "AAEC"}, "ü": [1, 2]}


def config_with(folder: Path, **sections: dict[str, Any]) -> Config:
    data = {name: {**SETTINGS.get(name, {}), **sections.get(name, {})} for name in {**SETTINGS, **sections}}
    return parse_config(json.dumps(data), "test", folder)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_with(tmp_path)


@pytest.fixture
def run(tmp_path: Path, config: Config, tokenizer: Tokenizer) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "small")
    run.create()
    run.write_config(config)
    run.write_tokenizer(tokenizer)
    return run


@pytest.fixture
def model(config: Config, tokenizer: Tokenizer) -> Seq2Seq:
    return build_model(config.model, tokenizer).eval()


Saver = Callable[..., Path]


@pytest.fixture
def save_step(run: RunDirectory, config: Config, tokenizer: Tokenizer, model: Seq2Seq) -> Saver:
    """Saves a checkpoint whose output bias tells which it is."""

    def save_step(step: int, mark: float | None = None) -> Path:
        model.output.bias.data.fill_(step if mark is None else mark)
        return save(run, f"step-{step:08d}", config, tokenizer, weights(model), TRAINED, STATES)

    return save_step


@pytest.fixture
def opened(config: Config, tokenizer: Tokenizer) -> Callable[[Path], Checkpoint]:
    return lambda path: Checkpoint(path, config, tokenizer.fingerprint)


def mark_of(checkpoint: Checkpoint) -> float:
    """Reads all of a checkpoint; gives the mark that it was saved with."""
    assert checkpoint.state() == STATES
    assert_same_tensors(checkpoint.training(), TRAINED)
    return float(checkpoint.model()["output.bias"][0])


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


# --- what was saved comes back


def test_all_that_was_saved_comes_back(run: RunDirectory, save_step: Saver, opened: Callable, model: Seq2Seq) -> None:
    path = save_step(3)
    assert path == run.checkpoints_path / "step-00000003"
    assert {file.name for file in path.iterdir()} == {MODEL, TRAINING, STATE, MANIFEST}
    assert [item.name for item in run.checkpoints_path.iterdir()] == [path.name]
    checkpoint = opened(path)
    assert checkpoint.resumable
    assert_same_tensors(checkpoint.model(), weights(model))
    assert_same_tensors(checkpoint.training(), TRAINED)
    assert checkpoint.state() == STATES


def test_a_loaded_model_computes_the_same(run: RunDirectory, save_step: Saver, model: Seq2Seq, config: Config) -> None:
    path = save_step(3)
    random_state = torch.get_rng_state()
    read, tokenizer, loaded = load_model(run, path)
    assert read == config
    assert torch.equal(torch.get_rng_state(), random_state)  # nothing is drawn that the file gives
    assert loaded.output.weight is loaded.source_embedding.weight
    sentences, length_B = torch.tensor([[5, 9, 3], [7, 8, 3]]), torch.tensor([3, 3])
    steps = []
    for each in (model, loaded.eval()):
        memory, state = each.encode(sentences, length_B)
        steps.append(each.step(torch.full((2, 1), tokenizer.target.specials.bos), state, memory).logits_BQV)
    assert torch.equal(*steps)


def test_a_checkpoint_for_inference_alone_is_not_resumable(
    run: RunDirectory, config: Config, tokenizer: Tokenizer, model: Seq2Seq, opened: Callable
) -> None:
    path = save(run, "average-00000007", config, tokenizer, weights(model))
    checkpoint = opened(path)
    assert not checkpoint.resumable
    assert_same_tensors(checkpoint.model(), weights(model))
    with pytest.raises(UserError, match=STATE):
        checkpoint.state()
    with pytest.raises(UserError, match=TRAINING):
        checkpoint.training()


def test_a_run_survives_being_moved(run: RunDirectory, save_step: Saver, tmp_path: Path) -> None:
    run.point("best", save_step(3))
    run.point("last", save_step(5))
    moved = tmp_path / "elsewhere"
    shutil.copytree(run.path, moved)
    shutil.rmtree(run.path)
    found, checkpoint = find_model(moved)
    assert checkpoint == moved / "checkpoints" / "step-00000003"
    assert load_model(found, checkpoint)[2].output.bias[0].item() == 3


def test_the_average_is_the_mean(save_step: Saver, opened: Callable, model: Seq2Seq) -> None:
    paths, saved = [], []
    for step in (1, 2, 3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        paths.append(save_step(step))
        saved.append({name: tensor.clone() for name, tensor in weights(model).items()})
    mean = average([opened(path).model() for path in paths])
    assert mean.keys() == saved[0].keys()
    for name, tensor in mean.items():
        assert tensor.dtype == saved[0][name].dtype
        torch.testing.assert_close(tensor, (saved[0][name] + saved[1][name] + saved[2][name]) / 3)
    assert_same_tensors(average([opened(paths[1]).model()]), saved[1])


def test_weights_that_do_not_fit_are_refused_and_change_nothing(model: Seq2Seq) -> None:
    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    good = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    extra = {**good, "surprise": torch.zeros(1)}
    missing = {name: tensor for name, tensor in good.items() if name != "output.bias"}
    misshapen = {**good, "output.bias": torch.zeros(3)}
    for tensors, word in ((extra, "surprise"), (missing, "output.bias"), (misshapen, r"\(3,\)")):
        with pytest.raises(UserError, match=f"this one: .*{word}"):
            load_weights(model, tensors, "this one")
        assert_same_tensors(weights(model), before)


# --- what is damaged is refused


def read_all(checkpoint: Checkpoint) -> None:
    checkpoint.model()
    checkpoint.training()
    checkpoint.state()


def assert_refused(path: Path, name: str, opened: Callable[[Path], Checkpoint]) -> None:
    """By its name; where the manifest tells of another format, the checkpoint's name is enough."""
    with pytest.raises(UserError) as error:
        read_all(opened(path))
    named = path if name == MANIFEST else path / name
    assert str(named) in str(error.value)


@pytest.mark.parametrize("name", [MODEL, TRAINING, STATE, MANIFEST])
@pytest.mark.parametrize("kept", [None, 0.0, 0.5, -1, "more", "folder"])
def test_a_file_missing_cut_or_too_long_is_refused(
    name: str, kept: float | str | None, save_step: Saver, opened: Callable
) -> None:
    path = save_step(3)
    file = path / name
    data = file.read_bytes()
    file.unlink()
    if kept == "folder":
        file.mkdir()
    elif kept == "more":
        file.write_bytes(data + b"\0")
    elif kept is not None:
        file.write_bytes(data[: -1 if kept == -1 else int(kept * len(data))])
    assert_refused(path, name, opened)


@pytest.mark.parametrize("name", [MODEL, TRAINING, STATE, MANIFEST])
def test_flipped_bits_are_refused(name: str, save_step: Saver, opened: Callable) -> None:
    path, draw = save_step(3), random.Random(name)
    data = (path / name).read_bytes()
    for _ in range(15):
        position, bit = draw.randrange(len(data)), draw.randrange(8)
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        (path / name).write_bytes(flipped)
        assert_refused(path, name, opened)
    (path / name).write_bytes(data)
    assert mark_of(opened(path)) == 3


def test_files_of_two_checkpoints_do_not_mix(save_step: Saver, opened: Callable) -> None:
    first, second = save_step(1), save_step(2)
    shutil.copy(first / MODEL, second / MODEL)
    assert_refused(second, MODEL, opened)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"3", b"{}", b'{"format": 1}', b"\xff\xfe", b"[" * 50_000, b'{"sha256": 1, "files": 2}'],
)
def test_a_manifest_of_another_kind_is_refused(content: bytes, save_step: Saver, opened: Callable) -> None:
    path = save_step(3)
    (path / MANIFEST).write_bytes(content)
    assert_refused(path, MANIFEST, opened)


def rewrite_manifest(path: Path, **changes: Any) -> None:
    """A manifest that is consistent in itself, but says something else."""
    content = json.loads((path / MANIFEST).read_bytes())
    del content["sha256"]
    content.update(changes)
    digest = sha256(json.dumps(content, sort_keys=True).encode())
    (path / MANIFEST).write_text(json.dumps({**content, "sha256": digest}), encoding="utf-8")


@pytest.mark.parametrize("other", [FORMAT + 1, 0, "two"])
def test_another_format_is_refused_by_its_name(other: object, save_step: Saver, opened: Callable) -> None:
    path = save_step(3)
    rewrite_manifest(path, format=FORMAT)
    assert mark_of(opened(path)) == 3
    rewrite_manifest(path, format=other)
    with pytest.raises(UserError, match=f"format {other}.*reads {FORMAT}") as error:
        opened(path)
    assert str(path) in str(error.value)


def test_a_later_format_may_have_any_manifest(save_step: Saver, opened: Callable) -> None:
    path = save_step(3)
    (path / MANIFEST).write_text('{"format": 9, "new": true}', encoding="utf-8")
    with pytest.raises(UserError, match="format 9"):
        opened(path)


def test_weights_of_another_config_are_refused(tmp_path: Path, save_step: Saver, tokenizer: Tokenizer) -> None:
    path = save_step(3)
    other = config_with(tmp_path, model={**SETTINGS["model"], "dropout": 0.25})
    with pytest.raises(UserError, match="another config") as error:
        Checkpoint(path, other, tokenizer.fingerprint)
    assert str(path) in str(error.value)


def test_weights_of_another_tokenizer_are_refused(save_step: Saver, config: Config) -> None:
    path = save_step(3)
    with pytest.raises(UserError, match="another tokenizer") as error:
        Checkpoint(path, config, sha256(b"another"))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["shared.model"])
def test_a_damaged_tokenizer_is_refused_before_it_is_parsed(
    name: str, run: RunDirectory, save_step: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = save_step(3), run.tokenizer_path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    monkeypatch.setattr(Tokenizer, "from_files", lambda files: pytest.fail("it was parsed"))
    with pytest.raises(UserError, match="another tokenizer"):
        load_model(run, path)
    file.unlink()
    with pytest.raises(UserError):
        load_model(run, path)


def test_the_identity_is_that_of_the_run_and_not_of_how_long_it_goes_on(tmp_path: Path) -> None:
    values = {
        "max_steps": 99,
        "max_epochs": 3,
        "max_minutes": 1.5,
        "patience": 4,
        "keep_last": 7,
        "log_every": 9,
        "samples": 0,
        "worker_timeout": 9.0,
    }
    assert {f"training.{key}" for key in values} == CHANGEABLE
    same = identity(config_with(tmp_path))
    assert identity(config_with(tmp_path, training={"max_steps": 10})) == same
    for key, value in values.items():
        assert identity(config_with(tmp_path, training={"max_steps": 10, key: value})) == same
    for key, value in {"seed": 2, "learning_rate": 0.1, "batch_tokens": 10}.items():
        assert identity(config_with(tmp_path, training={"max_steps": 10, key: value})) != same


# --- no crash loses any


class Killed(BaseException):
    """The process ends here: nothing after it runs that does not run after `kill -9` either."""


class Failing:
    """Lets the k-th call that touches the disk fail, a write in the middle of its data."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, error: Callable[[], BaseException]) -> None:
        self.at, self.error, self.calls = at, error, 0
        write, sync = module.write_synced, module.sync_folder
        rmtree = shutil.rmtree

        def half(path: Path, data: bytes) -> None:
            path.write_bytes(data[: len(data) // 2])

        patch.setattr(module, "write_synced", self._wrap(write, half))
        patch.setattr(module, "sync_folder", self._wrap(sync))
        for name in ("mkdir", "rename", "replace"):
            patch.setattr(Path, name, self._wrap(getattr(Path, name)))
        patch.setattr(module.shutil, "rmtree", self._guard(rmtree))

    def _wrap(self, call: Callable, before_failing: Callable | None = None) -> Callable:
        def wrapped(*arguments: Any, **names: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                if before_failing:
                    before_failing(*arguments)
                raise self.error()
            return call(*arguments, **names)

        return wrapped

    def _guard(self, rmtree: Callable) -> Callable:
        """After a kill nothing is cleaned up any more."""

        def guarded(*arguments: Any, **names: Any) -> None:
            if not (self.calls >= self.at and isinstance(self.error(), Killed)):
                rmtree(*arguments, **names)

        return guarded


ERRORS = {"full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "killed": Killed}
MANY = 40


def break_saving(save: Callable[[], object], how: str, at: int) -> bool:
    """Saves with a failure at the `at`-th call; returns whether it came to that."""
    with pytest.MonkeyPatch.context() as patch:
        failing = Failing(patch, at, ERRORS[how])
        if how == "killed":
            with contextlib.suppress(Killed):
                save()
        else:
            try:
                save()
            except RunFailed as error:
                assert "the disk is full" in str(error)
                assert error.exit_code == 3
    return failing.calls >= at


@pytest.mark.parametrize("how", ERRORS)
def test_whatever_fails_in_a_save_the_older_checkpoint_stands(
    how: str, run: RunDirectory, save_step: Saver, opened: Callable
) -> None:
    run.point("last", save_step(1))
    failed = 0
    for at in range(1, MANY):
        if not break_saving(lambda: save_step(2), how, at):
            break
        failed += 1
        last = run.pointer("last")
        assert last is not None
        assert mark_of(opened(last)) == 1
        for path in run.checkpoints():  # the new one is whole, or not there
            assert mark_of(opened(path)) == int(path.name[-8:])
        if how == "full":
            assert not [item for item in run.checkpoints_path.iterdir() if item.name.startswith(".")]
        prune(run, [last])
        assert not [item for item in run.checkpoints_path.iterdir() if item.name.startswith(".")]
        shutil.rmtree(run.checkpoints_path / "step-00000002", ignore_errors=True)
    assert 7 <= failed < MANY - 1  # a folder, four files, a sync and a rename at least
    assert mark_of(opened(run.checkpoints_path / "step-00000002")) == 2


@pytest.mark.parametrize("how", ERRORS)
def test_whatever_fails_in_saving_a_step_again_one_of_both_stands(
    how: str, run: RunDirectory, save_step: Saver, opened: Callable
) -> None:
    """A trainer saves the step again that `last` names when it has averaged, or when it is extended."""
    run.point("last", save_step(1))
    for at in range(1, MANY):
        if not break_saving(lambda: save_step(1, mark=100), how, at):
            break
        last = run.pointer("last")
        assert last is not None
        assert mark_of(opened(last)) in (1, 100)
        save_step(1)
    assert 7 < at < MANY - 1
    assert mark_of(opened(run.checkpoints_path / "step-00000001")) == 100


def test_what_an_earlier_crash_left_does_not_hinder_a_save(
    run: RunDirectory, save_step: Saver, opened: Callable
) -> None:
    leftover = run.checkpoints_path / f".step-00000003.{os.getpid()}.tmp"
    leftover.mkdir()
    (leftover / MODEL).write_bytes(b"half")
    (leftover / "more").write_bytes(b"")
    path = save_step(3)
    assert mark_of(opened(path)) == 3
    assert {file.name for file in path.iterdir()} == {MODEL, TRAINING, STATE, MANIFEST}


def test_a_pointer_that_cannot_be_written_keeps_what_it_had(
    run: RunDirectory, save_step: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = save_step(1), save_step(2)
    run.point("last", old)

    def full(*arguments: object) -> None:
        raise ERRORS["full"]()

    for name in ("replace", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            patch.setattr(os, "replace", full)
            with pytest.raises(OSError, match="No space"):
                run.point("last", new)
        assert run.pointer("last") == old
    assert [item.name for item in run.path.iterdir() if item.name.startswith(".")] == []


def test_a_reader_that_brings_back_what_is_being_replaced_hinders_no_save(
    run: RunDirectory, save_step: Saver, opened: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.point("last", save_step(1))
    set_aside, read = RunDirectory._set_aside, []

    def and_read(self: RunDirectory, checkpoint: Path) -> Path | None:
        aside = set_aside(self, checkpoint)
        if not read:
            read.append(RunDirectory(self.path).pointer("last"))
        return aside

    monkeypatch.setattr(RunDirectory, "_set_aside", and_read)
    path = save_step(1, mark=100)
    assert read == [path]
    assert mark_of(opened(path)) == 100
    assert [item.name for item in run.checkpoints_path.iterdir()] == [path.name]


# --- which are kept


def test_whatever_fails_in_pruning_no_checkpoint_is_half(
    run: RunDirectory, save_step: Saver, opened: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [save_step(step) for step in (1, 2, 3)]

    def half(path: Path, **names: Any) -> None:
        if path.is_dir():
            next(path.iterdir()).unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", half)
        with pytest.raises(Killed):
            prune(run, steps[-1:])
    for path in run.checkpoints():
        assert mark_of(opened(path)) == int(path.name[-8:])
    prune(run, steps[-1:])
    assert list(run.checkpoints_path.iterdir()) == steps[-1:]


def test_prune_keeps_what_it_is_told_to(run: RunDirectory) -> None:
    steps = [f"step-{100 * number:08d}" for number in range(1, 7)]
    for name in (*steps, "average-00000100", "average-00000200", ".step-00000900.7.tmp"):
        (run.checkpoints_path / name).mkdir()
        (run.checkpoints_path / name / MODEL).write_bytes(b"")
    kept = {*random.Random(1).sample(steps, 3), "average-00000200"}
    prune(run, [run.checkpoints_path / name for name in kept])
    assert {item.name for item in run.checkpoints_path.iterdir()} == kept
    prune(run, [])
    assert not list(run.checkpoints_path.iterdir())


def test_prune_leaves_alone_what_no_trainer_made(run: RunDirectory) -> None:
    own = ["notes.txt", "step-00000100.good", "step-by-step", "average-of-mine", "old"]
    for name in own:
        (run.checkpoints_path / name).mkdir()
    for step in (100, 200):
        (run.checkpoints_path / f"step-{step:08d}").mkdir()
    prune(run, [run.checkpoints_path / "step-00000200"])
    assert {item.name for item in run.checkpoints_path.iterdir()} == {*own, "step-00000200"}


# --- the run's config


def test_the_config_of_a_run_reads_back(run: RunDirectory, config: Config) -> None:
    assert run.exists
    assert run.read_config() == config


def test_a_config_of_many_files_is_read_back(run: RunDirectory, config: Config) -> None:
    """It is larger than the file it came from: every key, whole paths."""
    text = config.data.train[0]
    many = tuple(text.model_copy(update={"name": f"a part of the corpus, {number:05}"}) for number in range(3000))
    large = config.model_copy(update={"data": config.data.model_copy(update={"train": many})})
    run.write_config(large)
    assert run.config_path.stat().st_size > MAX_CHARACTERS
    assert run.read_config() == large


def test_only_what_a_kill_left_is_cleared(run: RunDirectory) -> None:
    (run.path / ".last.123.tmp").write_text("")
    others = [run.path / ".out.txt.123.tmp", run.path / ".mine.tmp"]
    others[0].write_text("somebody is writing this")
    others[1].mkdir()
    run.create()
    assert not (run.path / ".last.123.tmp").exists()
    assert all(path.exists() for path in others)


def test_metrics_that_cannot_be_read_are_not_taken_for_none(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"step": 1}\n')
    run.metrics_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot read it"):
        MetricsLog(run.metrics_path).rewind(5, 5)
    assert (tmp_path / "elsewhere").read_text() == '{"step": 1}\n'


def test_a_damaged_config_is_refused(run: RunDirectory, config: Config) -> None:
    """Only the writer's version stands unguarded in the first line: it is there to be shown."""
    data, draw, refused = run.config_path.read_bytes(), random.Random(1), 0
    for _ in range(60):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        run.config_path.write_bytes(flipped)
        try:
            assert run.read_config() == config
        except UserError as error:
            assert str(run.path) in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("cut", [0, 1, 30, 150, -1])
def test_a_cut_config_is_refused(cut: int, run: RunDirectory) -> None:
    run.config_path.write_bytes(run.config_path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"config\.yaml"):
        run.read_config()


def test_an_edited_config_is_refused(run: RunDirectory) -> None:
    text = run.config_path.read_text(encoding="utf-8")
    assert "seed: 1\n" in text
    run.config_path.write_text(text.replace("seed: 1\n", "seed: 2\n"), encoding="utf-8")
    with pytest.raises(UserError, match="edited"):
        run.read_config()
    run.config_path.write_text(text.split("\n", 1)[1], encoding="utf-8")
    with pytest.raises(UserError, match="first line"):
        run.read_config()


def test_a_run_of_another_format_is_refused_and_names_who_reads_it(run: RunDirectory) -> None:
    text = run.config_path.read_text(encoding="utf-8")
    first = text.split("\n", 1)[0]
    words = first.replace(f"format {FORMAT}", "format 23").split(" ")
    words[words.index("s2s", 3) + 1] = "9.8.7,"
    run.config_path.write_text(" ".join(words) + "\nwhat: ever\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"format 23.*s2s 9\.8\.7"):
        run.read_config()


def test_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is here"):
        RunDirectory(tmp_path / "nowhere").read_config()


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="file"):
        RunDirectory(tmp_path / "file").create()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


# --- the lock

HOLD = """
import sys
from pathlib import Path
from s2s_cli.train.metrics import MetricsLog
from s2s_cli.yaml12 import MAX_CHARACTERS
from s2s_cli.run import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_weights_of_an_earlier_layer_norm_are_told() -> None:
    cell = CELLS["gru"](3, 4, layer_norm=True)
    inside = {"rnn.bias_ih_l0": torch.zeros(12), "rnn.bias_hh_l0": torch.zeros(12)}
    model = torch.nn.ModuleDict({"a": cell})
    tensors = {**weights(model), **{f"a.{name}": tensor for name, tensor in inside.items()}}
    with pytest.raises(UserError, match="biases inside, as an earlier s2s made it: train it anew"):
        check_fits(model, tensors, "run")
    with pytest.raises(UserError, match="on one side only"):
        check_fits(model, {**tensors, "more": torch.zeros(1)}, "run")


def test_a_run_has_one_trainer_at_a_time(run: RunDirectory) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parent.parent)}
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(UserError, match=f"process {other.pid} ") as error, run.lock():
                pass
            assert str(run.path) in str(error.value)
            with pytest.raises(UserError, match=f"process {other.pid} "), run.lock():  # nor has the try broken it
                pass
            (run.path / "lock").write_text("99999999 elsewhere\n")  # as on a disk that two hosts share
            assert run.is_being_trained()
            with pytest.raises(UserError, match="process 99999999 on elsewhere is training"), run.lock():
                pass
        finally:
            other.kill()
            other.wait()
    assert not run.is_being_trained(), "whatever stands there"
    with run.lock(), pytest.raises(UserError, match=f"process {os.getpid()} "), run.lock():
        pytest.fail("two hold it")
    with run.lock():  # the system lets go of it, however the process ends
        pass


# --- pointers, and how a model is found


def test_pointers_name_their_checkpoints(run: RunDirectory, save_step: Saver) -> None:
    assert run.pointer("last") is None
    run.point("last", save_step(1))
    run.point("best", run.checkpoints_path / "step-00000001")
    run.point("last", save_step(2))
    assert run.pointer("best") == run.checkpoints_path / "step-00000001"
    assert run.pointer("last") == run.checkpoints_path / "step-00000002"
    assert (run.path / "last").read_bytes() == b"step-00000002\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"best",
        b"\xff\xfe\x00",
        b"step-00000009\n",
        b"step-1",
        b"../../other/checkpoints/step-00000001",
        b"/tmp/step-00000001",
        b"step-00000001/../step-00000001",
        b"step-00000001\nstep-00000001\n",
        b"step-00000001" + b"0" * 200,
    ],
)
@pytest.mark.parametrize("name", ["best", "last"])
def test_a_damaged_pointer_is_refused_and_the_choices_are_told(
    content: bytes, name: str, run: RunDirectory, save_step: Saver
) -> None:
    save_step(1)
    (run.path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        run.pointer(name)
    assert str(run.path / name) in str(error.value)
    assert "step-00000001" in str(error.value)
    with pytest.raises(UserError):
        find_model(run.path)


def test_a_pointer_that_cannot_be_read_is_not_taken_for_none(run: RunDirectory, save_step: Saver) -> None:
    """Otherwise a training that could go on would begin anew."""
    save_step(1)
    (run.path / "last").mkdir()
    with pytest.raises(UserError, match="last"):
        run.pointer("last")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a model in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S2S_MODEL", raising=False)
    return tmp_path


@pytest.fixture
def three_runs(here: Path, run: RunDirectory, save_step: Saver) -> dict[str, Path]:
    run.point("best", save_step(1))
    run.point("last", save_step(2))
    copies = {name: here / "runs" / name for name in ("given", "environment", "latest-one")}
    for path in copies.values():
        shutil.copytree(run.path, path)
    return copies


def test_a_model_is_the_one_given_else_the_environments_else_the_latest(
    three_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(path: Path | None) -> Path:
        run, checkpoint = find_model(path)
        assert checkpoint.resolve() == run.path.resolve() / "checkpoints" / "step-00000001"  # the best, not the last
        return run.path.resolve()

    with pytest.raises(UserError):
        find_model(None)
    record_latest(RunDirectory(three_runs["latest-one"]))
    assert found(None) == three_runs["latest-one"]
    monkeypatch.setenv("S2S_MODEL", str(three_runs["environment"]))
    assert found(None) == three_runs["environment"]
    assert found(three_runs["given"]) == three_runs["given"]
    assert found(Path("runs") / "given") == three_runs["given"]
    monkeypatch.setenv("S2S_MODEL", "")
    assert found(None) == three_runs["latest-one"]
    (three_runs["latest-one"] / "best").unlink()
    _, checkpoint = find_model(None)
    assert checkpoint.name == "step-00000002"


def test_keys_that_came_later_leave_the_identity_as_it_was_where_they_change_nothing(config: Config) -> None:
    assert LATER
    data = config.model_dump(mode="json")
    for key in (*CHANGEABLE, *LATER):
        *sections, name = key.split(".")
        places = [data]
        for section in sections:
            found = [place[section] for place in places]
            places = [each for one in found for each in (one if isinstance(one, list) else [one])]
        for place in places:
            del place[name]
    before = hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    assert identity(config) == before
    other = config.model_copy(update={"model": config.model.model_copy(update={"encoder_dropout": 0.1})})
    assert identity(other) != before


def test_the_latest_run_may_stand_elsewhere(here: Path, run: RunDirectory, save_step: Saver) -> None:
    run.point("best", save_step(1))
    elsewhere = here / "else where"
    shutil.copytree(run.path, elsewhere)
    record_latest(RunDirectory(Path("else where")))
    assert find_model(None)[0].path.resolve() == elsewhere
    record_latest(RunDirectory(Path("runs") / "small"))
    assert (here / "runs" / "latest").read_text(encoding="utf-8") == "small\n"
    assert find_model(None)[0].path.resolve() == run.path.resolve()


@pytest.mark.parametrize("step", [1, 2])
def test_a_checkpoint_is_a_model_too(step: int, three_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = three_runs["given"] / "checkpoints" / f"step-{step:08d}"
    run, checkpoint = find_model(path)
    assert (run.path, checkpoint) == (three_runs["given"], path)
    assert load_model(run, checkpoint)[2].output.bias[0].item() == step
    monkeypatch.chdir(path)
    run, checkpoint = find_model(Path("."))
    assert (run.path, checkpoint) == (three_runs["given"], path)


def test_without_a_model_the_error_says_how_to_make_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (None, here / "nowhere", here):
        with pytest.raises(UserError, match="s2s train"):
            find_model(path)
    monkeypatch.setenv("S2S_MODEL", "nowhere")
    with pytest.raises(UserError, match=r"nowhere.*s2s train"):
        find_model(None)


def test_a_run_without_a_checkpoint_says_so(here: Path, run: RunDirectory) -> None:
    with pytest.raises(UserError, match="no checkpoint yet"):
        find_model(run.path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\xfe", b"gone\n", b"a\0b", pytest.param(b"x" * 300, id="too long"), b"two\nlines\n", b"."],
)
def test_a_damaged_latest_is_refused(content: bytes, here: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "latest").write_bytes(content)
    with pytest.raises(UserError):
        find_model(None)
