"""The measurements measure what they say; the figures themselves are of no interest here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from benchmarks import decoding, levers, scaling, turns
from benchmarks.corpus import Text
from benchmarks.measure import machine, matrix_rate, seconds
from benchmarks.training import OTHERS, PLAIN, model, operations, variants
from s2s_cli.config import BAHDANAU
from s2s_cli.config_file import load_config
from s2s_cli.data.batches import Batch
from s2s_cli.data.tokenizer import Specials
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.recurrent import CELLS
from s2s_cli.model.seq2seq import Seq2Seq

ROOT = Path(__file__).parent.parent
SPECIALS = Specials(0, 1, 2, 3)


@pytest.mark.parametrize(
    ("attention", "changes", "millions"),
    [("luong-general", {"tie_embeddings": "all"}, 31), ("luong-general", {"feeding": True, "readout_size": 512}, 51)],
)
def test_operations_are_those_of_the_weights(attention: str, changes: dict[str, object], millions: float) -> None:
    """By hand, for sources as long as targets: six times the weights that a piece meets.

    Tied: 2 * 512 * 1024 in the encoder, 512 * 512 for the keys, 768 * 2048 in the cell, 1024 * 256, 256 * 8000.
    """
    feeding = bool(changes.pop("feeding", False))
    config = model("lstm", attention, feeding=feeding, **changes)
    network = Seq2Seq(config, 8000, 8000, SPECIALS, SPECIALS)
    ids, lengths = torch.full((2, 10), 5), torch.full((2,), 10)
    assert operations(network, [Batch(ids, lengths, ids, ids, lengths)]) / 1e6 == pytest.approx(millions, abs=1)


def test_every_cell_and_attention_is_measured() -> None:
    named = dict(variants())
    kinds = {(c.decoder.cell, c.attention, c.decoder.input_feeding) for c in named.values()}
    plain, every, fed_alone = len(PLAIN), len(ATTENTIONS), len(BAHDANAU)
    assert {cell for cell, *_ in kinds} == set(CELLS)
    assert {attention for cell, attention, _ in kinds if cell == "lstm"} == set(ATTENTIONS)
    assert len(named) == 2 + 2 * (2 * plain - 1) + 2 * every - fed_alone + len(OTHERS)
    assert any(config.encoder.layer_norm for config in named.values())


def test_a_median_leaves_out_the_first_call_and_the_machine_names_itself() -> None:
    calls: list[int] = []
    assert 0 <= seconds(lambda: calls.append(1), 4) < 1
    assert len(calls) == 5
    assert matrix_rate(torch.float32, size=64, repeats=1) > 1e6
    found = machine()
    assert found["processor"]
    assert found["matrix_gflops"]["fp32"] > 0


def test_agreement_is_that_of_translations_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that in fp32 says what it should, and in bf16 misses one line of four."""
    said = [f"this is line number {number} of a text" for number in range(4)]

    def load(*arguments: object, precision: str, **names: object) -> SimpleNamespace:
        lines = said if precision == "fp32" else [*said[:3], "nothing of all this"]
        return SimpleNamespace(translate=lambda sources: [[SimpleNamespace(text=line)] for line in lines])

    monkeypatch.setattr(decoding, "Translator", SimpleNamespace(load=load))
    found = decoding.agreement(cast(Text, SimpleNamespace(lines=said, references=said)), ROOT, 5, 4)
    assert (found["beam"], found["the_same"], found["bleu_fp32"]) == (5, 0.75, 100)
    assert 50 < found["bleu_bf16"] < 90


def test_growth_is_written_as_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "growth", "--output", tmp_path / "found.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["growth"]
    assert set(found) == {"corpus", "memory", "length"}
    for rows in found.values():
        assert all(value > 0 for row in rows for key, value in row.items() if "megabytes_" not in key)
    assert found["corpus"][0]["megabytes_held"] < found["corpus"][0]["megabytes_on_disk"] + 2


def test_what_many_workers_are_left_of_their_speed_is_arithmetic_and_stands_in_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By hand for two workers: 80 MB in ten buckets, nine of them hidden; the last one and two agreements are not."""
    sent, seconds = 80e6 / 1e9, 1.0
    shown = (sent + 10 * 2 * 1e-5) / 10 + 2 * 1e-5
    assert scaling.bytes_sent(20_000_000, 2) == 80e6
    assert scaling.efficiency(seconds, 20_000_000, 2, 1e9, 1e-5) == pytest.approx(1 / (scaling.UNEVEN + shown))
    assert scaling.efficiency(seconds, 20_000_000, 512, 1e30, 0) == pytest.approx(1 / scaling.UNEVEN)
    document = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for update, parameters in ((0.62, 6_259_520), (0.1, 50_000_000)):
        scaling.predict(update, parameters)
        _, table = capsys.readouterr().out.split("\n", 1)
        assert table in document


def test_two_programs_translate_in_turns(tmp_path: Path) -> None:
    run, lines = ROOT / "tests" / "frozen" / "format-1", tmp_path / "lines"
    lines.write_text("copy a b\nreverse c d e\n" * 4, encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.turns", lines, "--model", run, "--model", run, "--rounds", "2"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [line.split(": ") for line in done.stdout.splitlines()]
    assert [name for name, _ in found] == [f"beam {beam}, batch {batch}" for beam, batch in turns.SETTINGS]
    for _, told in found:
        middle, low, high = (float(number) for number in re.findall(r"\d+\.\d+", told))
        assert 0 < low <= middle <= high


def test_every_lever_is_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTI30K_DIR", "somewhere")
    configs = {name: load_config(levers.CONFIG, changes) for name, changes in levers.LEVERS.items()}
    preset = configs.pop("the preset")
    assert all(config != preset for config in configs.values())


def test_levers_stand_beside_the_preset_the_best_first() -> None:
    scores = {("the preset", 1): 30.0, ("the preset", 2): 31.0, ("bpe", 1): 32.0, ("GRU", 1): 29.5, ("GRU", 2): 30.5}
    figures = {levers.Lever(*who).key: {"bleu": bleu, "seconds": 90} for who, bleu in scores.items()}
    assert levers.table(figures).splitlines()[2:] == [
        "| bpe | 32.00 | +1.50 | 2 |",
        "| the preset | 30.00, 31.00 |  | 2 |",
        "| GRU | 29.50, 30.50 | -0.50 | 2 |",
    ]


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "growth" in done.stderr
