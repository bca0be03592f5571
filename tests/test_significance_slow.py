"""The gate on real translations: damage is told from chance (slow; on Multi30k, `make test-slow`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import torch
import toy

from s2s_cli.translate.translator import Translator

ROOT = Path(__file__).parent.parent
CORPUS = Path(os.environ.get("MULTI30K_DIR", ROOT.parent / "shared" / "data" / "multi30k"))
SEEDS = (1, 2, 3)
UPDATES = 700
NOISE = 1.2  # of the spread of each of the decoder's weights: a translator hardly minds less

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CORPUS / "train.en").is_file(), reason=f"Multi30k is not in {CORPUS}: set MULTI30K_DIR"),
]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Runs one short recipe with a seed; gives the run."""
    folder = tmp_path_factory.mktemp("seeds")

    @cache
    def run(seed: int) -> Path:
        changes = {"max_steps": UPDATES, "validate_every": UPDATES, "average_decay": 0.99, "seed": seed}
        changes |= {"r_drop": 0, "batch_tokens": 2048, "warmup_steps": 200, "learning_rate": 1.5e-3}
        settings = [f"training.{key}={value}" for key, value in changes.items()]
        settings += ["model.decoder.attend_after=last", "model.word_dropout=0.1"]  # all of it: quicker in the beginning
        options = [word for setting in settings for word in ("--set", setting)]
        done = toy.s2s(
            "train", "--config", ROOT / "configs" / "large.yaml", "--run", f"seed{seed}", *options,
            cwd=folder, MULTI30K_DIR=str(CORPUS), OMP_NUM_THREADS="2", timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return folder / f"seed{seed}"

    return run


def damaged(run: Path) -> Path:
    """Translations by a copy of the model whose decoder was shaken a little."""
    translator = Translator.load(run)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in translator.model.decoder.parameters():
            weight += NOISE * weight.std() * torch.randn_like(weight)
    lines = (CORPUS / "test_2016_flickr.en").read_text(encoding="utf-8").splitlines()
    path = run.parent / "damaged.txt"
    path.write_text("".join(f"{best.text}\n" for best, *_ in translator.translate(lines)), encoding="utf-8")
    return path


def test_damage_fails_the_build(train: Callable[[int], Path]) -> None:
    run = train(SEEDS[0])
    broken = damaged(run)
    options = ("--fail-on", "regression", "--json", "-")
    done = toy.s2s("evaluate", "--model", run, "--hypothesis", broken, "--baseline", run, *options, cwd=run.parent)
    assert done.returncode == 1, done.stderr.decode()
    found = json.loads(done.stdout)["evaluations"][1]["comparisons"]
    print(f"damage: {[(item['metric'], round(item['gain'], 2), item['p_bootstrap']) for item in found]}")
    assert found[0]["metric"] == "bleu"
    assert -6 < found[0]["gain"] < 0  # a little

    whole = run.parent / "whole.txt"
    assert toy.s2s("evaluate", "--model", run, "--output", whole, cwd=run.parent).returncode == 0
    for option, key in (("--paired-bs", "p_bootstrap"), ("--paired-ar", "p_randomization")):
        command = [sys.executable, "-m", "sacrebleu", CORPUS / "test_2016_flickr.de", "-i", whole, broken]
        command += ["-m", "bleu", "chrf", option, "-f", "text", "-w", "4"]
        output = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout.decode()
        assert [f"{item[key]:.4f}" for item in found] == re.findall(r"\(p = ([\d.]+)\)", output)


def test_another_seed_mostly_does_not(train: Callable[[int], Path]) -> None:
    runs = {seed: train(seed) for seed in SEEDS}
    codes = []
    for first, second in combinations(SEEDS, 2):
        for system, baseline in ((first, second), (second, first)):
            options = ("--metric", "bleu", "--baseline", runs[baseline], "--fail-on", "regression")
            done = toy.s2s("evaluate", "--model", runs[system], *options, cwd=runs[system].parent)
            print(done.stdout.decode())
            assert done.returncode in (0, 1), done.stderr.decode()
            codes.append(done.returncode)
    assert sum(codes) <= 1, codes
