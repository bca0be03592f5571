"""The real command: streams, exit codes, one clear line for every mistake."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sacrebleu
import torch
import toy
import yaml
from terminal import Terminal

import s2s_cli
from s2s_cli.config_file import dump_config, load_config, schema
from s2s_cli.errors import UserError
from s2s_cli.score.evaluator import Evaluator
from s2s_cli.score.request import Request
from s2s_cli.score.system import ModelSystem
from s2s_cli.score.testset import from_run
from s2s_cli.translate.code import translating_code


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run `runs/toy`."""
    folder = tmp_path_factory.mktemp("cli")
    path = toy.write_config(folder)
    done = toy.s2s("train", "--config", path, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def test_translate_alone_uses_the_run_that_finished_last(trained: Path) -> None:
    done = toy.s2s("translate", cwd=trained, stdin=b"copy a b\n\nreverse c d\n")
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert len(lines) == 4
    assert lines[1] == lines[3] == ""


def test_the_variable_and_the_option_name_a_model_and_a_copied_run_works(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copied"
    subprocess.run(["cp", "-r", trained / "runs" / "toy", copy], check=True)
    by_option = toy.s2s("translate", "--model", copy, cwd=tmp_path, stdin=b"copy a\n")
    by_variable = toy.s2s("translate", cwd=tmp_path, stdin=b"copy a\n", S2S_MODEL=str(copy))
    assert by_option.returncode == by_variable.returncode == 0
    assert by_option.stdout == by_variable.stdout


def test_hostile_lines_come_out_line_by_line(trained: Path) -> None:
    lines = [
        b"copy a",
        b"",
        b"  ",
        b"copy \xff\xfe b",
        b"copy\0a",
        b"a\rb",
        b"a\xe2\x80\xa8b",
        b"\xef\xbb\xbfx",
        b"x\r",
    ]
    done = toy.s2s("translate", cwd=trained, stdin=b"\n".join(lines))
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == len(lines)
    assert len(done.stdout.decode().splitlines()) == len(lines)
    assert b"repaired" in done.stderr
    assert b"6 of 9" in done.stderr


def test_a_copied_run_finds_its_test_set_in_its_folder(trained: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    first = tmp_path / "first"
    shutil.copytree(trained, first)
    done = toy.s2s("train", "--config", "toy.yaml", "--run", "runs/moved", cwd=first)
    assert done.returncode == 0, done.stderr.decode()
    shutil.copytree(first / "runs" / "moved", elsewhere)
    shutil.rmtree(first)
    gone = toy.s2s("evaluate", "--model", elsewhere, cwd=tmp_path)
    assert gone.returncode == 2
    assert b"put it into the run's folder" in gone.stderr
    for name in ("test.src", "test.tgt"):
        shutil.copy(trained / name, elsewhere)
    assert toy.s2s("evaluate", "--model", elsewhere, cwd=tmp_path).returncode == 0


def test_test_sets_whose_files_have_the_same_names_are_not_taken_for_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        toy.write_corpus(tmp_path / name)
        sets.append({"name": name, "source": f"{name}/test.src", "target": f"{name}/test.tgt"})
    config = toy.write_config(tmp_path, data__test=sets, training__max_steps=1)
    assert toy.invoke("train", "--config", config, "--run", "runs/both") is None
    shutil.move("new/test.src", "runs/both")
    shutil.move("new/test.tgt", "runs/both")
    shutil.rmtree("old")
    for name in ("old", "new"):
        gone = toy.s2s("evaluate", "--model", "runs/both", "--test", name, cwd=tmp_path)
        assert gone.returncode == 2
        assert f"put it into runs/both/{name}," in gone.stderr.decode()
    (tmp_path / "runs" / "both" / "new").mkdir()
    for side in ("src", "tgt"):
        shutil.move(f"runs/both/test.{side}", "runs/both/new")
    assert toy.s2s("evaluate", "--model", "runs/both", "--test", "new", cwd=tmp_path).returncode == 0


def test_what_was_noticed_in_translating_is_told_of_kept_translations_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = toy.write_config(tmp_path, training__max_steps=1, decoding__max_source_length=2)
    assert toy.invoke("train", "--config", config, "--run", "runs/short") is None
    for _ in range(2):
        done = toy.s2s("evaluate", "--model", "runs/short", cwd=tmp_path, S2S_CACHE=str(tmp_path / "cache"))
        assert "only their beginning was translated" in done.stderr.decode()
    assert "taken from the cache" in done.stderr.decode()


def test_other_settings_of_decoding_translate_otherwise(trained: Path, tmp_path: Path) -> None:
    cache = {"S2S_CACHE": str(tmp_path)}

    def evaluations(*settings: str) -> dict[str, Any]:
        options = [part for setting in settings for part in ("--set", setting)]
        done = toy.s2s("evaluate", *options, "--json", "-", cwd=trained, **cache)
        assert done.returncode == 0, done.stderr.decode()
        (found,) = json.loads(done.stdout)["evaluations"]
        return dict(found)

    usual, short = evaluations(), evaluations("decoding.max_length=2", "decoding.beam=1")
    assert max(len(text.split()) for text in usual["translations"]) > 1
    assert max(len(text.split()) for text in short["translations"]) == 1
    assert (short["decoding"]["max_length"], short["decoding"]["beam"]) == (2, 1)
    for setting, word in (
        ("training.seed=2", "write decoding.KEY=VALUE"),
        ("decoding.beams=2", "did you mean 'beam'"),
        ("decoding.beam=0", "decoding.beam"),
    ):
        done = toy.s2s("evaluate", "--set", setting, cwd=trained)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr.decode()
        assert word in done.stderr.decode()


def test_one_file_is_no_baseline_of_several_test_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy.write_corpus(tmp_path)
    sets = [{"name": name, "source": "test.src", "target": "test.tgt"} for name in ("one", "two")]
    config = toy.write_config(tmp_path, data__test=sets, training__max_steps=1)
    assert toy.invoke("train", "--config", config, "--run", "runs/toy") is None
    command = ["evaluate", "--baseline", "test.tgt", "--test", "one"]
    assert toy.s2s(*command, cwd=tmp_path).returncode == 0
    done = toy.s2s(*command, "--test", "two", cwd=tmp_path)
    assert done.returncode == 2
    assert "one file cannot hold the translations of 2 test sets" in done.stderr.decode()


def test_the_same_model_on_the_same_text_is_not_translated_twice(trained: Path, tmp_path: Path) -> None:
    cache = {"S2S_CACHE": str(tmp_path / "cache")}
    first = toy.s2s("evaluate", "--json", "-", cwd=trained, **cache)
    second = toy.s2s("evaluate", "--json", "-", "--batch-size", 7, cwd=trained, **cache)
    assert b"cache" not in first.stderr
    assert b"translations taken from the cache" in second.stderr
    one, other = (json.loads(done.stdout)["evaluations"][0] for done in (first, second))
    assert one["translations"] == other["translations"]
    assert one["scores"] == other["scores"]
    (kept,) = (tmp_path / "cache" / "translations").iterdir()
    for options in (["--beam", 1], ["--no-cache"], ["--source", "test.tgt", "--reference", "test.tgt"]):
        done = toy.s2s("evaluate", *options, cwd=trained, **cache)
        assert done.returncode == 0, done.stderr.decode()
        assert b"cache" not in done.stderr, options
    kept.write_bytes(kept.read_bytes().replace(b'"translations": ["', b'"translations": ["x'))
    done = toy.s2s("evaluate", cwd=trained, **cache)
    assert b"cache" not in done.stderr  # damaged, so not believed
    assert b"cache" in toy.s2s("evaluate", cwd=trained, **cache).stderr
    shutil.copytree(trained / "runs" / "toy", tmp_path / "damaged")
    for weights in (tmp_path / "damaged" / "checkpoints").glob("*/model.safetensors"):
        os.truncate(weights, 10)
    done = toy.s2s("evaluate", "--model", tmp_path / "damaged", cwd=trained, **cache)
    assert done.returncode == 2, "what is kept does not stand for damaged weights"
    system = ModelSystem(trained / "runs" / "toy", None, print)
    test = from_run(system.run, system.config, None)
    before = system._key(test)
    for where in ("torch.__version__", "sentencepiece.__version__"):  # nor for what another release would say
        with patch(where, "another"):
            assert system._key(test) != before
    with patch("s2s_cli.score.system.choose_precision", lambda *_: torch.bfloat16):
        assert system._key(test) != before
    nowhere = toy.s2s("evaluate", cwd=trained, S2S_CACHE="/dev/null/x")
    assert nowhere.returncode == 0
    assert nowhere.stderr == b""


def test_a_ceiling_judges_the_loss_of_a_model(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    done = toy.s2s("evaluate", "--max", "loss=100", "--max", "perplexity=1", "--json", path, cwd=trained)
    assert done.returncode == 1, done.stderr.decode()
    scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
    for metric in ("loss", "perplexity"):
        assert scores[metric]["low"] < scores[metric]["value"] < scores[metric]["high"]
    assert b"passed: loss" in done.stdout
    assert b"MISSED: perplexity" in done.stdout
    assert b"nrefs:1|per:piece|tokenizer:" in done.stdout


def test_a_model_is_no_baseline_of_itself(trained: Path) -> None:
    for options in ((), ("--beam", 1), ("--model", "runs/toy")):
        done = toy.s2s("evaluate", *options, "--baseline", "runs/toy", "--fail-on", "regression", cwd=trained)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"this is the model itself" in done.stderr and done.stderr.count(b"\n") == 1


def test_names_of_a_stranger_are_obeyed_by_nobody(trained: Path, tmp_path: Path) -> None:
    """Neither by a terminal nor by GitHub, which takes lines that begin with two colons for commands."""
    shutil.copytree(trained / "runs" / "toy", tmp_path / "x\n::stop-commands::y\x1b[2J")
    (model,) = tmp_path.iterdir()
    for _ in range(2):  # the second takes what is kept, and says so
        done = toy.s2s("evaluate", "--model", model, "--details", cwd=trained, S2S_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr.decode()
        for stream in (done.stdout, done.stderr):
            assert b"\x1b" not in stream
            assert not [line for line in stream.splitlines() if line.startswith(b"::")]
    with pytest.raises(UserError, match=r"data\.test.*name: must be one line"):
        load_config(toy.write_config(tmp_path, data__test=[{"name": "a\nb", "source": "s", "target": "t"}]))


def test_a_run_is_a_baseline_and_several_test_sets_are_scored_at_once(trained: Path, tmp_path: Path) -> None:
    settings = toy.config()
    settings["data"]["test"] = [
        {"name": name, "source": str(trained / f"{name}.src"), "target": str(trained / f"{name}.tgt")}
        for name in ("test", "valid")
    ]
    copy = tmp_path / "work"
    shutil.copytree(trained, copy)
    (copy / "toy.yaml").write_text(json.dumps(settings), encoding="utf-8")
    assert toy.s2s("train", "--config", "toy.yaml", "--run", "runs/two", cwd=copy).returncode == 0
    command = ["evaluate", "--model", "runs/two", "--baseline", "runs/toy", "--test", "test", "--test", "valid"]
    done = toy.s2s(*command, "--report", "report.html", "--json", "-", "--fail-on", "regression", cwd=copy)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)["evaluations"]
    assert [(item["test_set"], item["system"], item["baseline"]) for item in found] == [
        ("test", "toy", True),
        ("test", "two", False),
        ("valid", "toy", True),
        ("valid", "two", False),
    ]
    assert all(item["gain"] == 0 for item in found[1]["comparisons"])  # the same seed
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert page.count('"weights": "') == sum(item["sentences"] for item in found)
    assert '"curve": [{"step": ' in page


def test_the_workflow_of_the_readme_gates_a_build(trained: Path, tmp_path: Path) -> None:
    """Its last step, as a runner of GitHub would run it."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (workflow,) = re.findall(r"```yaml\n(# \.github/workflows.*?)```", readme, flags=re.DOTALL)
    assert len(workflow.splitlines()) == 10
    steps = yaml.safe_load(workflow)["jobs"]["translation"]["steps"]
    (gate,) = (step["run"] for step in steps if "s2s evaluate" in step.get("run", ""))
    shutil.copytree(trained / "runs" / "toy", tmp_path / "model")
    for side, name in (("src", "en"), ("tgt", "de")):
        shutil.copy(trained / f"test.{side}", tmp_path / f"test.{name}")
    done = toy.s2s(
        "evaluate", "--model", "model", "--source", "test.en", "--reference", "test.de", "--json", "before.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "s2s").write_text(f'#!/bin/sh\nexec {sys.executable} -m s2s_cli "$@"\n')
    (tmp_path / "s2s").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }

    def run(script: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=120
        )

    missed = run(gate)
    assert missed.returncode == 1, missed.stderr.decode()  # a toy has no 30 BLEU
    assert b"::error title=s2s evaluate::model on test.de: bleu" in missed.stderr
    passed = run(gate.replace("bleu=30", "bleu=0"))
    assert passed.returncode == 0, passed.stderr.decode()
    assert (tmp_path / "summary.md").read_text().count("### s2s evaluate") == 2
    assert (tmp_path / "scores.xml").is_file()
    assert (tmp_path / "report.html").is_file()


def test_outputs_that_cannot_be_written_are_refused_before_any_work(trained: Path, tmp_path: Path) -> None:
    for command in ("translate", "evaluate"):
        done = toy.s2s(command, "--output", tmp_path, cwd=trained, stdin=b"copy a\n")
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
    (tmp_path / "file").touch()
    done = toy.s2s("train", "--config", "toy.yaml", "--run", tmp_path / "file", cwd=trained)
    assert done.returncode == 2
    assert b"choose another" in done.stderr


def test_n_best_lines(trained: Path) -> None:
    done = toy.s2s("translate", "--n-best", 2, "--beam", 4, cwd=trained, stdin=b"copy a b\n\n")
    rows = [line.split(" ||| ") for line in done.stdout.decode().splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "1"]
    assert float(rows[0][2]) >= float(rows[1][2])


def test_input_and_output_files(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("copy a\nreverse a b\n")
    out = tmp_path / "out.txt"
    done = toy.s2s("translate", "--input", tmp_path / "in.txt", "--output", out, cwd=trained)
    assert done.returncode == 0
    assert done.stdout == b""
    assert out.read_bytes().count(b"\n") == 2


def test_a_closed_pipe_is_quiet_and_endless_input_answers_at_once(trained: Path) -> None:
    command = f"yes 'copy a b c' | {sys.executable} -m s2s_cli translate | head -n 3"
    began = time.monotonic()
    done = subprocess.run(
        command,
        shell=True,
        cwd=trained,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        timeout=60,
    )
    assert done.stdout.count(b"\n") == 3
    assert done.stderr == b""
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("config schema", 141),
        ("evaluate --model runs/toy --json - --min bleu=0", 141),
        ("evaluate --model runs/toy --json - --min bleu=101", 141),
        ("translate --input valid.src --output out.txt", 0),
        ("translate --input valid.src --output out.txt --show-attention", 0),
    ],
)
def test_a_reader_that_is_gone_is_no_missed_gate(trained: Path, command: str, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    script = f"exec 3> >(exec true); sleep 0.2; {sys.executable} -m s2s_cli {command} >&3 2>&3"
    assert subprocess.run(["bash", "-c", script], cwd=trained, env=environment, timeout=60).returncode == code


def test_training_goes_on_where_nobody_reads_what_it_tells(tmp_path: Path) -> None:
    toy.write_config(tmp_path)
    command = [sys.executable, "-m", "s2s_cli", "train", "--config", "toy.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    unread, told = os.pipe()
    os.close(unread)
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=told, stderr=told, timeout=120)
    os.close(told)
    assert done.returncode == 0
    assert "finished at step 20" in (tmp_path / "runs" / "toy" / "train.log").read_text()


def test_evaluate_warns_of_sources_that_were_cut(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("copy" + 1200 * " a" + "\n")
    done = toy.s2s(
        "evaluate", "--source", tmp_path / "long", "--reference", tmp_path / "long", "--beam", 1, cwd=trained
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"warning: toy on long: 1 of 1 sources were longer than 1,000 pieces" in done.stderr


def test_a_run_that_lies_in_runs_is_offered(trained: Path) -> None:
    done = toy.s2s("translate", "--model", "toy", cwd=trained)
    assert done.returncode == 2 and b"toy: no such run directory (there is runs/toy)" in done.stderr


def test_packed_translations_of_an_evaluation_are_scored_again(trained: Path, tmp_path: Path) -> None:
    packed = tmp_path / "said.gz"
    done = toy.s2s("evaluate", "--output", packed, "--plain", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert packed.read_bytes().startswith(b"\x1f\x8b")
    again = toy.s2s(
        "evaluate", "--hypothesis", packed, "--reference", "test.tgt", "--metric", "bleu", "--plain", cwd=trained
    )
    assert again.returncode == 0, again.stderr.decode()
    (score,) = (line.split()[1] for line in again.stdout.decode().splitlines() if line.startswith("bleu"))
    assert f"bleu {score} ".encode() in b" ".join(done.stdout.split()) + b" "


def test_a_missing_packer_is_told_before_an_evaluation_translates(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match=r"zstandard: pip install"):
        Evaluator(Request(model=trained / "runs" / "toy", output=tmp_path / "said.zst"), print)


def test_translations_are_known_by_the_code_that_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = translating_code()
    package = shutil.copytree(Path(s2s_cli.__file__).parent, tmp_path / "s2s_cli")
    monkeypatch.setattr(s2s_cli, "__file__", str(package / "__init__.py"))
    assert translating_code.__wrapped__() == own
    with open(package / "cli" / "plot.py", "a") as file:
        file.write("# it draws\n")
    assert translating_code.__wrapped__() == own
    with open(package / "search" / "loop.py", "a") as file:
        file.write("# it decides\n")
    assert translating_code.__wrapped__() != own
    assert own.startswith(f"{s2s_cli.__version__}+")


def peak_memory(folder: Path, lines: int) -> int:
    """Kilobytes that `s2s translate` held at most, for lines of many lengths."""
    draw = random.Random(lines)
    given, out = folder / f"{lines}.txt", folder / f"{lines}.out"
    rows = (" ".join(draw.choices(toy.LETTERS, k=draw.randint(1, 12))) for _ in range(lines))
    given.write_text("".join(f"copy {row}\n" for row in rows), encoding="utf-8")
    command = [sys.executable, "-m", "s2s_cli", "translate", "--beam", "1", "-i", str(given), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert out.read_bytes().count(b"\n") == lines
    return int(usage.ru_maxrss)


def test_memory_does_not_grow_with_the_input(trained: Path) -> None:
    short, long = peak_memory(trained, 1_500), peak_memory(trained, 15_000)
    assert long < 1.05 * short, f"{short:,} kB for 1,500 lines, {long:,} kB for 15,000"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_never_success(trained: Path) -> None:
    for arguments in (["translate"], ["evaluate", "--no-cache"], ["config", "schema"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "s2s_cli", *arguments],
                cwd=trained,
                input=b"copy a\n",
                stdout=full,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            )
        assert done.returncode == 3, arguments
        assert done.stderr.count(b"\n") == 1, done.stderr.decode()


def test_evaluate_scores_the_test_set_of_the_config(trained: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "hyp.txt", tmp_path / "scores.json"
    done = toy.s2s("evaluate", "--output", out, "--json", report, cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[0].split() == ["metric", "score", "95", "%", "interval", "signature"]
    written = json.loads(report.read_text())
    assert written["evaluations"][0]["sentences"] == 60
    assert written["scores"]["bleu"]["low"] <= written["scores"]["bleu"]["high"]
    again = toy.s2s("evaluate", "--hypothesis", out, "--json", "-", cwd=trained)
    assert "judged by the test set and settings of runs/toy:" in again.stderr.decode()
    assert json.loads(again.stdout)["scores"] == written["scores"]


def test_a_missed_gate_exits_with_1(trained: Path) -> None:
    assert toy.s2s("evaluate", "--min", "bleu=0", cwd=trained).returncode == 0
    missed = toy.s2s("evaluate", "--min", "bleu=101", cwd=trained)
    assert missed.returncode == 1
    assert b"MISSED: bleu" in missed.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--config", "nowhere.yaml"], "cannot read the config"),
        (["train", "--config", "toy.yaml", "--set", "model.attention=luong"], "did you mean 'luong-"),
        (["train", "--config", "toy.yaml", "--set", "modle.dropout=1"], "did you mean 'model'?"),
        (
            ["train", "--config", "toy.yaml", "--set", "data.train.source=gone.txt"],
            "--set: data.train.source: no such file",
        ),
        (["train", "--config", "toy.yaml", "--set", "training.device=cuda:77"], "device cuda:77"),
        (
            [
                "train",
                "--config",
                "toy.yaml",
                "--set",
                "model.attention=luong-dot",
                "--set",
                "model.decoder.hidden_size=9",
            ],
            "set decoder.hidden_size to 64",
        ),
        (["translate", "--model", "nowhere"], "no such run directory"),
        (["translate", "--beam", "0"], "decoding.beam"),
        (["translate", "--n-best", "9"], "raise beam"),
        (["translate", "--precision", "fp8"], "decoding.precision"),
        (["translate", "--input", "gone.txt"], "cannot read it"),
        (["evaluate", "--min", "blue=3"], "did you mean 'bleu'?"),
        (["evaluate", "--min", "bleu"], "METRIC=VALUE"),
        (["evaluate", "--metric", "chrf", "--min", "ter=3"], "less is better"),
        (["evaluate", "--test", "tset"], "did you mean 'test'?"),
        (["evaluate", "--source", "test.src"], "--source needs --reference"),
        (["evaluate", "--hypothesis", "short.txt"], "misaligned"),
        (["evaluate", "--hypothesis", "test.tgt", "--reference", "test.tgt", "--beam", "2"], "leave it out"),
        (["evaluate", "--metric", "BLEU"], "did you mean 'bleu'?"),
        (["evaluate", "--hypothesis", "broken.txt", "--reference", "test.tgt"], "broken.txt:2: not UTF-8"),
    ],
)
def test_every_mistake_ends_with_exit_2_and_says_what_to_change(
    trained: Path, arguments: list[str], words: str
) -> None:
    (trained / "short.txt").write_text("a\n")
    (trained / "broken.txt").write_bytes(b"a\n\xff\n")
    done = toy.s2s(*arguments, cwd=trained)
    assert done.returncode == 2, done.stderr.decode()
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_without_any_model_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    done = toy.s2s("translate", cwd=tmp_path, stdin=b"a\n")
    assert done.returncode == 2
    assert b"s2s train --config" in done.stderr


def test_misaligned_and_empty_training_text(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    with open(tmp_path / "train.src", "a") as source:
        source.write("copy a\n")
    done = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert done.returncode == 2
    assert b"misaligned" in done.stderr
    (tmp_path / "train.src").write_text("")
    (tmp_path / "train.tgt").write_text("")
    done = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert done.returncode == 2
    assert b"no lines to train on" in done.stderr


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """`s2s` in a shell, which can close streams and lay pipes."""
    program = f"{sys.executable} -m s2s_cli"
    return subprocess.run(
        ["sh", "-c", command.replace("s2s", program, 1)],
        cwd=cwd,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("s2s config schema >&-", 3),
        ("s2s --help >&-", 3),
        ("echo copy a | s2s translate >&-", 3),
        ("s2s evaluate --no-cache --json - >&-", 3),
        ("s2s translate <&-", 0),
        ("s2s config schema 2>&- >/dev/null", 0),
    ],
)
def test_a_closed_stream_is_told_and_no_traceback(trained: Path, command: str, code: int) -> None:
    done = shell(command, trained)
    assert done.returncode == code, done.stderr.decode()
    assert done.stderr.count(b"\n") == (code > 0)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_exit_code_stands_though_nobody_can_be_told(trained: Path) -> None:
    assert shell("s2s translate --model nowhere 2>/dev/full", trained).returncode == 2
    assert shell("s2s evaluate --min bleu=101 2>/dev/full", trained).returncode == 1


def test_standard_output_may_be_named(trained: Path) -> None:
    plain = shell("echo copy a | s2s translate", trained).stdout
    assert shell("echo copy a | s2s translate --output /dev/stdout", trained).stdout == plain
    assert shell("echo copy a | s2s translate --output /dev/stdout | cat", trained).stdout == plain


def test_a_dash_is_no_file(trained: Path) -> None:
    for command in (("translate", "--input"), ("translate", "--output"), ("evaluate", "--hypothesis")):
        done = toy.s2s(*command, "-", cwd=trained, stdin=b"copy a\n")
        assert done.returncode == 2 and f"{command[1]} -: no file is called so".encode() in done.stderr
    assert not (trained / "-").exists()


def test_signatures_are_whole_on_a_narrow_terminal(trained: Path) -> None:
    own = Terminal("evaluate", folder=trained, COLUMNS="80")
    try:
        for _ in range(2):
            own.answer(f"version:{sacrebleu.__version__}")
        assert own.end() == 0
    finally:
        own.close()


def test_a_name_that_no_disk_takes_exits_with_2(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("n" * 250, tmp_path / "loop" / "x"):
        for command in (("translate", "--output"), ("evaluate", "--json")):
            done = toy.s2s(*command, path, cwd=trained, stdin=b"copy a\n")
            assert done.returncode == 2, done.stderr.decode()
            assert done.stderr.count(b"s2s: error") == 1
            assert b"Traceback" not in done.stderr


def test_results_go_through_pipes_and_links_and_leave_them_there(trained: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    for option in ("--json", "--junit", "--report", "--output"):
        with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
            done = toy.s2s("evaluate", option, tmp_path / "pipe", cwd=trained)
            assert done.returncode == 0, done.stderr.decode()
            assert reader.communicate(timeout=60)[0].count(b"\n") > 1
        assert (tmp_path / "pipe").is_fifo()
        assert toy.s2s("evaluate", option, tmp_path / "link", cwd=trained).returncode == 0
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() != "old"
        assert toy.s2s("evaluate", option, "/dev/null", cwd=trained).returncode == 0
        assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "target"]


def test_a_second_trainer_is_refused_and_told_who_holds_the_run(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path, training__max_steps=100_000)
    root = str(Path(__file__).parent.parent)
    first = subprocess.Popen(
        [sys.executable, "-m", "s2s_cli", "train", "--config", str(path)],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        deadline = time.monotonic() + 60
        metrics = tmp_path / "runs" / "toy" / "metrics.jsonl"
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert metrics.exists()
        second = toy.s2s("train", "--config", path, cwd=tmp_path)
        assert second.returncode == 2
        assert f"process {first.pid} is training here".encode() in second.stderr
    finally:
        first.kill()
        first.wait()
    assert toy.s2s("train", "--config", path, "--set", "training.max_steps=1", cwd=tmp_path).returncode == 0


def test_help_is_quick_and_every_command_has_examples() -> None:
    here = Path(__file__).parent.parent
    done = toy.s2s("--help", cwd=here, fresh=True)
    assert done.returncode == 0
    for command in ("train", "translate", "evaluate", "score", "plot", "info", "average"):
        assert command.encode() in done.stdout
        assert b"Example" in toy.s2s(command, "--help", cwd=here).stdout
    assert toy.s2s("--version", cwd=here).stdout.startswith(b"s2s ")


def test_the_gates_of_a_config_hold_until_the_command_line_says_otherwise(tmp_path: Path) -> None:
    own = {"evaluation__min": {"bleu": 101}, "evaluation__max": {"loss": 0.001}}
    config = toy.write_config(tmp_path, training__max_steps=1, decoding__beam=1, **own)
    assert toy.s2s("train", "--config", config, cwd=tmp_path).returncode == 0

    def judged(*options: object) -> tuple[int, dict[tuple[str, str], float]]:
        done = toy.s2s("evaluate", *options, "--json", "-", cwd=tmp_path)
        (found,) = json.loads(done.stdout)["evaluations"]
        return done.returncode, {(gate["kind"], gate["metric"]): gate["limit"] for gate in found["gates"]}

    assert judged() == (1, {("min", "bleu"): 101, ("max", "loss"): 0.001})
    assert judged("--min", "bleu=0", "--max", "loss=99") == (0, {("min", "bleu"): 0, ("max", "loss"): 99})
    assert judged("--hypothesis", "test.tgt") == (1, {("min", "bleu"): 101})
    assert judged("--hypothesis", "test.tgt", "--reference", "test.tgt") == (0, {})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"no_repeat_ngram": None},
        {"search": "sampling"},
        {"search": "sampling", "mbr": True, "samples": 3},
        {"search": "beam", "beam": 2},
        {"search": "diverse", "beam_groups": 3},
    ],
)
def test_what_an_evaluation_says_of_decoding_is_how_it_decodes(
    changes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "decoding"
    if not folder.exists():
        own = {"decoding__beam": 3, "decoding__mbr": True, "decoding__no_repeat_ngram": 2}
        config = toy.write_config(folder, training__max_steps=1, **own)
        assert toy.s2s("train", "--config", config, cwd=folder).returncode == 0
    system = ModelSystem(folder / "runs" / "toy", None, print, changes)
    assert system.decoding == system.translator.config
    assert changes.items() <= system.decoding.model_dump().items()


def test_the_config_commands_print_what_they_say(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    assert json.loads(toy.s2s("config", "schema", cwd=tmp_path).stdout) == schema()
    shown = toy.s2s("config", "show", "--config", path, "--set", "model.dropout=0.25", cwd=tmp_path).stdout.decode()
    assert shown == dump_config(load_config(path, ["model.dropout=0.25"]), comments=True)
