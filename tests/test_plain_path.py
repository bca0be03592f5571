"""Training by the fast path and by its plain twin: the same losses, update after update."""

from __future__ import annotations

from contextlib import nullcontext
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor

from s2s_cli.config import ModelConfig
from s2s_cli.data.batches import Batch, pad_rows
from s2s_cli.data.tokenizer import Specials
from s2s_cli.device import has_bf16
from s2s_cli.model import decoder as decoder_module
from s2s_cli.model import seq2seq as seq2seq_module
from s2s_cli.model.interface import CellState
from s2s_cli.model.recurrent import Layer
from s2s_cli.model.seq2seq import Seq2Seq

UPDATES = 500
TOLERANCE, BF16_TOLERANCE = 1e-4, 0.02  # of the mean loss of 50 updates; measured: 1e-6 and 0.01
PIECES = ["<pad>", "<unk>", "<s>", "</s>", "copy", "reverse", *toy.LETTERS]
SPECIALS = Specials(pad=0, unk=1, bos=2, eos=3)


def batches() -> list[Batch]:
    """The toy task, 40 pairs a batch."""
    found = []
    rows = toy.pairs(1200, seed=3)
    for start in range(0, len(rows), 40):
        ids = [[[PIECES.index(word) for word in side.split()] for side in pair] for pair in rows[start : start + 40]]
        src_BS, src_len_B = pad_rows([[*source, SPECIALS.eos] for source, _ in ids], SPECIALS.pad)
        tgt_in_BT, tgt_len_B = pad_rows([[SPECIALS.bos, *target] for _, target in ids], SPECIALS.pad)
        tgt_out_BT, _ = pad_rows([[*target, SPECIALS.eos] for _, target in ids], SPECIALS.pad)
        found.append(Batch(src_BS, src_len_B, tgt_in_BT, tgt_out_BT, tgt_len_B))
    return found


def train(config: ModelConfig, *, bf16: bool = False) -> list[float]:
    torch.manual_seed(11)
    model = Seq2Seq(config, len(PIECES), len(PIECES), SPECIALS, SPECIALS)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses, every = [], batches()
    for update in range(UPDATES):
        batch = every[update % len(every)]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.losses(batch, 0.1).smoothed / batch.tokens
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def plain_layer(self: Layer, x_BTI: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
    """One step after the other, by the equations of the cell."""
    if state is None:
        state = tuple(x_BTI.new_zeros(len(x_BTI), self.rnn.hidden_size) for _ in range(self.parts))
    outputs = []
    for x_BI in x_BTI.unbind(1):
        state = self.step(self.input(x_BI), state)
        outputs.append(state[0])
    return torch.stack(outputs, dim=1), state


def plain_loss(
    readout_NR: Tensor, weight_VR: Tensor, bias_V: Tensor, targets_N: Tensor, smoothing: float, r_drop: float
) -> tuple[Tensor, Tensor]:
    assert not r_drop
    logits_NV = F.linear(readout_NR, weight_VR, bias_V)
    smoothed = F.cross_entropy(logits_NV, targets_N, label_smoothing=smoothing, reduction="sum")
    return smoothed, F.cross_entropy(logits_NV, targets_N, reduction="sum").detach()


@pytest.mark.parametrize(
    ("cell", "attention", "feeding"),
    [("lstm", "bahdanau", True), ("gru", "luong-general", True), ("lstm", "luong-general", False)],
)
def test_losses_agree_over_500_updates(
    cell: str, attention: str, feeding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig.model_validate(
        {
            "encoder": {"cell": cell, "hidden_size": 16},
            "decoder": {"cell": cell, "hidden_size": 32, "input_feeding": feeding},
            "attention": attention,
            "embedding_size": 16,
            "dropout": 0.0,
        }
    )
    fast = train(config)
    rough = train(config, bf16=True) if has_bf16(torch.device("cpu")) else None
    monkeypatch.setattr(Layer, "forward", plain_layer)
    monkeypatch.setattr(decoder_module, "deferred", lambda module: nullcontext())
    monkeypatch.setattr(seq2seq_module, "linear_cross_entropy", plain_loss)
    plain = train(config)
    assert fast != plain, "the twin is the path itself"
    assert fast[-1] < fast[0] / 2
    torch.testing.assert_close(fast[:20], plain[:20], rtol=1e-4, atol=1e-5)
    for start in range(0, UPDATES, 50):
        exact = fmean(plain[start : start + 50])
        assert fmean(fast[start : start + 50]) == pytest.approx(exact, rel=TOLERANCE)
        if rough:
            assert fmean(rough[start : start + 50]) == pytest.approx(exact, rel=BF16_TOLERANCE)
