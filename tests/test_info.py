"""What `s2s info` tells is what is on the disk; what is damaged is told, and ends nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import toy
from terminal import Terminal

from s2s_cli.checkpoint import load_model
from s2s_cli.config_file import change
from s2s_cli.model.seq2seq import count_parameters
from s2s_cli.report.runs import _bars
from s2s_cli.run import RunDirectory, find_model

FROZEN = Path(__file__).parent / "frozen" / "format-1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs: `runs/toy`, the latest, and `runs/vectors`, whose sources are features."""
    folder = tmp_path_factory.mktemp("info")
    for name, changes in (("vectors", toy.of_features(training__max_steps=1)), ("toy", {})):
        done = toy.s2s("train", "-c", toy.write_config(folder, **changes), "--run", f"runs/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A copy, to break."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def info(*arguments: object, cwd: Path) -> str:
    done = toy.s2s("info", *arguments, cwd=cwd, TZ="UTC")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout.decode()


def as_json(*arguments: object, cwd: Path) -> Any:
    return json.loads(info(*arguments, "--json", "-", cwd=cwd))


def states(folder: Path) -> dict[str, str]:
    return {run["name"]: run["history"]["state"] for run in as_json(cwd=folder)["runs"]}


def test_the_list_has_a_line_for_each_run(trained: Path) -> None:
    head, *rows = info(cwd=trained).splitlines()
    assert head.split() == ["run", "state", "step", "best", "parameters", "saved"]
    assert len(rows) == 2
    assert "toy (latest)" in rows[0] and "finished" in rows[0] and "20" in rows[0] and rows[0].endswith("ago")
    model = load_model(*find_model(trained / "runs" / "toy"))[2]
    assert f"{count_parameters(model):,}" in rows[0]
    best = max(row["scores"]["bleu"] for row in toy.metrics(trained / "runs" / "toy") if "scores" in row)
    assert f"bleu {best:.2f}" in rows[0]


def test_a_run_is_in_the_state_that_it_is_in(here: Path) -> None:
    runs = here / "runs"
    for name in ("unfinished", "begun", "held", "later", "broken", "empty", "torn"):
        shutil.copytree(runs / "toy", runs / name)
    shutil.copytree(FROZEN, runs / "frozen")
    (runs / "no run").mkdir()
    (runs / "file").touch()
    longer = RunDirectory(runs / "unfinished")
    config = longer.read_config()
    longer.write_config(config.model_copy(update={"training": change(config.training, {"max_steps": 40}, "training")}))
    for pointer in ("best", "last"):
        (runs / "begun" / pointer).unlink()
    shutil.rmtree(runs / "begun" / "checkpoints")
    (runs / "later" / "config.yaml").write_text("# s2s run, format 9, written by s2s 9.0, sha256 " + 64 * "0" + "\n")
    (runs / "empty" / "config.yaml").unlink()
    (runs / "torn" / "last").write_text("step-00000099\n")
    os.truncate(next((runs / "broken" / "checkpoints").iterdir()) / "manifest.json", 10)
    os.truncate(runs / "broken" / "checkpoints" / "step-00000020" / "model.safetensors", 2000)
    with RunDirectory(runs / "held").lock():
        found = states(here)
    (runs / "latest").write_bytes(b"a\0b")
    assert states(here) == {**found, "held": "finished"}, "nothing is the latest then"
    assert found == {
        "toy": "finished",
        "vectors": "finished",
        "unfinished": "unfinished",
        "begun": "begun",
        "held": "being trained",
        "frozen": "weights alone",
        **dict.fromkeys(("later", "broken", "empty", "torn"), "damaged"),
    }
    told = info(cwd=here)
    assert "format 9" in told and "no run is here" in told and "step-00000099, which is not there" in told
    assert "model.safetensors: damaged" in told or "manifest.json: missing or damaged" in told


def test_a_list_needs_no_torch_and_no_numpy(trained: Path) -> None:
    code = (
        "import sys; sys.argv = ['s2s', 'info']\nfrom s2s_cli.cli.main import main\ntry: main()\n"
        "except SystemExit: print({'torch', 'numpy', 'sentencepiece', 'sacrebleu'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(FROZEN.parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=trained, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("ago\nset()\n")


def test_without_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = toy.s2s("info", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"s2s train --config" in done.stderr
    assert as_json(cwd=tmp_path) == {"runs": []}


def test_checkpoints_that_lie_elsewhere_are_weighed_once(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "runs" / "toy", run)
    before = as_json(run, cwd=tmp_path)["bytes"]
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert as_json(run, cwd=tmp_path)["bytes"] == before


def test_the_page_and_its_json_tell_what_is_there(trained: Path) -> None:
    run = trained / "runs" / "toy"
    found = as_json("runs/toy", cwd=trained)
    config, tokenizer, model = load_model(*find_model(run))
    history, weights = found["history"], found["weights"]
    rows = toy.metrics(run)
    best = (run / "best").read_text().strip()
    assert weights["checkpoint"] == best
    content = (run / "checkpoints" / best / "model.safetensors").read_bytes()
    assert weights["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["tokenizer_sha256"] == tokenizer.fingerprint
    assert weights["parameters"] == sum(weights["parts"].values()) == count_parameters(model)
    assert weights["parts"]["attention"] == sum(weight.numel() for weight in model.decoder.attention.parameters())
    assert weights["vocabulary"] == {"source": len(tokenizer.source), "target": len(tokenizer.target)}
    assert history["step"] == 20 and history["reason"] == "max_steps 20 reached" and history["state"] == "finished"
    assert history["target_pieces"] == rows[-1]["tokens"]
    assert history["epochs"] == rows[-1]["epoch"]
    assert [one["step"] for one in history["validations"]] == [10, 20]
    assert [one["scores"] for one in history["validations"]] == [row["scores"] for row in rows if "scores" in row]
    assert history["best"] == max(row["scores"]["bleu"] for row in rows if "scores" in row)
    assert [saved["name"] for saved in found["checkpoints"]] == ["step-00000010", "step-00000020"]
    assert {name: saved["name"] for saved in found["checkpoints"] for name in saved["pointers"]} == {
        name: (run / name).read_text().strip() for name in ("best", "last")
    }
    assert all(saved["resumable"] for saved in found["checkpoints"])
    assert sum(found["bytes"].values()) == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert found["config"] == config.model_dump(mode="json")
    assert found["latest"] and found["s2s"] and found["format"] == 1
    page = info("runs/toy", cwd=trained)
    for words in (best, weights["sha256"][:12], tokenizer.fingerprint[:12], "luong-general", "beam 2", "20 steps"):
        assert words in page
    assert f"{history['best']:.2f}" in page


def test_the_page_names_the_data_and_what_trained_it(trained: Path) -> None:
    found, page = as_json("runs/toy", cwd=trained), info("runs/toy", cwd=trained)
    for name in ("train", "valid", "test"):
        assert f"{trained / name}.src, {trained / name}.tgt" in page
    pairs, held_out = (len((trained / f"{name}.src").read_text().splitlines()) for name in ("train", "valid"))
    logged = found["logged"]
    assert (logged["training_pairs"], logged["validation_pairs"]) == (pairs, held_out)
    assert f"{pairs:,} for training" in page and f"{held_out} for validation" in page
    (trained_on,) = logged["trained_on"]
    assert trained_on.startswith("fp32 on cpu (") and trained_on in page


def test_a_log_that_is_missing_or_a_strangers_is_no_harm(here: Path) -> None:
    log = here / "runs" / "toy" / "train.log"
    own = log.read_text(encoding="utf-8")
    model = next(line for line in own.splitlines() if "model: " in line)
    log.write_text(f"{own}{model.split(', ')[0]}, bf16 on \x1b[2Jcuda\n{model}\ntorn", encoding="utf-8")
    page = info("runs/toy", cwd=here)
    assert "; then bf16 on ?[2Jcuda" in page and "\x1b" not in page
    log.write_bytes(b"2026-01-01 00:00:00 data: ,,, training pairs (1 target pieces), 9 for validation\n\xff\0")
    assert as_json("runs/toy", cwd=here)["logged"]["trained_on"] == []
    info("runs/toy", cwd=here)
    log.unlink()
    assert as_json("runs/toy", cwd=here)["logged"]["training_pairs"] is None
    assert "trained on" not in info("runs/toy", cwd=here)


def test_a_checkpoint_is_described_as_what_it_translates_with(trained: Path) -> None:
    found = as_json("runs/toy/checkpoints/step-00000010", cwd=trained)
    assert found["weights"]["checkpoint"] == "step-00000010"
    assert found["history"]["step"] == 20


def test_sources_of_features_have_a_width(trained: Path) -> None:
    assert as_json("runs/vectors", cwd=trained)["weights"]["vocabulary"]["source"] == len(toy.WORDS)
    assert f"feature vectors of width {len(toy.WORDS)}" in info("runs/vectors", cwd=trained)


def test_what_it_translates_with_is_verified(here: Path) -> None:
    run = here / "runs" / "toy"
    path = run / "checkpoints" / (run / "best").read_text().strip() / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert states(here)["toy"] == "finished", "a list hashes no weights"
    done = toy.s2s("info", "runs/toy", cwd=here)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"damaged" in done.stderr and b"is whole" in done.stderr and done.stderr.count(b"\n") == 1
    content[-1] ^= 1
    path.write_bytes(content)
    (run / "tokenizer" / "shared.model").write_bytes(b"another")
    done = toy.s2s("info", "runs/toy", cwd=here)
    assert done.returncode == 2 and b"another tokenizer" in done.stderr


def test_metrics_of_a_stranger_are_taken_for_what_they_are(here: Path) -> None:
    run = here / "runs" / "toy"
    rows = [
        {"step": 1, "scores": {"bleu": "high", "chrf": None, "ter": True, "x\x1b[31m": 3.0}, "epoch": []},
        {"step": 2, "scores": [1, 2], "epoch": "one"},
        {"step": 3, "scores": {"bleu": float("nan"), "chrf": 10**400}},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + "torn", encoding="utf-8")
    found = as_json("runs/toy", cwd=here)["history"]
    assert [one["scores"] for one in found["validations"]] == [{"x\x1b[31m": 3.0}, {}]
    assert found["epochs"] is None
    assert "\x1b" not in info("runs/toy", cwd=here)
    (run / "metrics.jsonl").unlink()
    assert as_json("runs/toy", cwd=here)["history"]["validations"] == []


def test_a_terminal_gets_tables_and_nothing_that_it_would_obey(here: Path) -> None:
    (here / "runs" / "toy").rename(here / "runs" / "[red]\x1b[2J")
    own = Terminal("info", folder=here, COLUMNS="200")
    try:
        seen = own.answer("┘")
        assert own.end() == 0
    finally:
        own.close()
    assert "[red]?[2J" in seen and "\x1b[2J" not in seen and "┃ parameters" in seen


def test_bars_show_the_course_and_the_last_value() -> None:
    assert _bars([0, 1, 2, 7]) == "▁▂▃█"
    assert _bars([3.0]) == "▁"
    many = _bars([*range(1000)])
    assert len(many) == 60 and many[0] == "▁" and many[-1] == "█" and list(many) == sorted(many)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/nowhere"], "no such run directory"),
        (["runs"], "no run is here"),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: cannot be written"),
    ],
)
def test_mistakes_exit_with_2(arguments: list[str], words: str, trained: Path) -> None:
    done = toy.s2s("info", *arguments, cwd=trained)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()


def test_plain_columns_stay_columns_on_a_terminal(here: Path) -> None:
    own = Terminal("info", "--plain", folder=here, COLUMNS="200")
    try:
        seen = own.rest()
        assert own.end() == 0
    finally:
        own.close()
    assert "parameters" in seen
    assert not set("┃│┏━") & set(seen)
