"""What training and validation work with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from s2s_cli.config import Config
from s2s_cli.data.corpus import Corpus
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.distributed import Workers
from s2s_cli.model.seq2seq import Seq2Seq
from s2s_cli.run import RunDirectory


@dataclass(frozen=True)
class Parts:
    """A run, its config, what was made of it, and who trains it."""

    run: RunDirectory
    config: Config
    tokenizer: Tokenizer
    train: Corpus
    valid: Corpus
    model: Seq2Seq
    device: torch.device
    workers: Workers
