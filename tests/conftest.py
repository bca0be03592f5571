"""Shared by the tests: a small tokenizer, and models and batches of random weights and pieces."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

from s2s_cli.config import ModelConfig, TokenizerConfig
from s2s_cli.data.batches import Batch, pad_rows
from s2s_cli.data.tokenizer import Specials, Tokenizer, train_vocabulary
from s2s_cli.model.seq2seq import Seq2Seq

# A busy machine is no fault, and a build must not depend on chance.
settings.register_profile("s2s", deadline=None, database=None, derandomize=True)
settings.load_profile("s2s")

# Tensors here are tiny: a second thread only makes them wait for it, here and in the commands that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Workers that tests start have torch before they know that they are several (distributed.py).
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

# What the tests translate is kept for them alone.
os.environ["S2S_CACHE"] = tempfile.mkdtemp(prefix="s2s-tests-")
atexit.register(shutil.rmtree, os.environ["S2S_CACHE"], ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="the long forms of tests/torture, and their figures")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often to do a thing: first in `make test`, then in `make torture`."""
    return lambda quick, long: long if request.config.getoption("--torture") else quick


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What `record_property("figure", ...)` told, for docs/reliability.md."""
    reports = terminalreporter.getreports("passed") if config.getoption("--torture") else []
    for report in sorted(reports, key=lambda report: report.nodeid):
        for name, text in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")


SPECIALS = Specials(pad=0, unk=1, bos=2, eos=3)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test begins with the same random numbers."""
    torch.manual_seed(20_150_920)
    yield


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """One SentencePiece vocabulary for both sides, trained on 200 made-up lines."""
    draw = random.Random(7)
    words = ["".join(draw.choice("abcdeinorstu") for _ in range(draw.randint(2, 6))) for _ in range(60)]
    lines = [" ".join(draw.choices(words, k=draw.randint(3, 8))) for _ in range(200)]
    both = train_vocabulary(lines, TokenizerConfig(vocab_size=60), "shared")
    return Tokenizer(both, both)


@pytest.fixture
def shake() -> Callable[[nn.Module], None]:
    """Gives every weight and bias a value that matters, so that none can be forgotten without a difference."""

    def shake(module: nn.Module) -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.uniform_(-0.6, 0.6)

    return shake


@pytest.fixture
def make_model(shake: Callable[[nn.Module], None]) -> Callable[..., Seq2Seq]:
    """Builds a model in evaluation mode, of 11 source and 13 target pieces."""

    def make(config: ModelConfig, source_size: int = 11, target_size: int = 13) -> Seq2Seq:
        model = Seq2Seq(config, source_size, target_size, SPECIALS, SPECIALS)
        shake(model)
        return model.eval()

    return make


@pytest.fixture
def batch() -> Batch:
    """Four pairs of different lengths; the longest source and the longest target are not of the same pair."""
    sources = [[5, 9, 4, 3], [7, 3], [10, 6, 8, 5, 4, 3], [9, 5, 3]]
    targets = [[4, 12, 5, 6, 11, 8], [9], [], [5, 7, 10]]
    src_BS, src_len_B = pad_rows(sources, SPECIALS.pad)
    tgt_in_BT, tgt_len_B = pad_rows([[SPECIALS.bos, *row] for row in targets], SPECIALS.pad)
    tgt_out_BT, _ = pad_rows([[*row, SPECIALS.eos] for row in targets], SPECIALS.pad)
    return Batch(src_BS, src_len_B, tgt_in_BT, tgt_out_BT, tgt_len_B)
