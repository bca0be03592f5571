"""Teacher forcing of given translations: how likely the model finds them, and where its attention looked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from s2s_cli.data.batches import Batch, make_batch, plan_batches
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.model.seq2seq import Seq2Seq

Rows = Sequence[Any]
"""Of sources, as the tokenizer's source side encodes them."""
Pieces = Sequence[Sequence[int]]


def perplexity(loss: float) -> float:
    """exp of a loss in nats; of one that says nothing any more, a number all the same."""
    return math.exp(min(loss, 700))


def losses(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    sources: Rows,
    targets: Pieces,
    batch_tokens: int,
    check: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """For each pair the negative log-likelihood of every target piece and of the end of sentence, in nats; no label
    smoothing.

    Args:
        model, tokenizer: they belong together.
        sources: rows, as the tokenizer encodes them.
        targets: ids, without special pieces.
        batch_tokens: the most tokens in a batch, padding included.
        check: called before each batch; may raise to stop.
    """
    found: list[Tensor] = [torch.empty(0)] * len(sources)
    for rows, batch in _batches(model, tokenizer, sources, targets, batch_tokens):
        check()
        nll_N = model.losses(batch).nll_N.cpu()
        for row, nll_T in zip(rows, torch.split(nll_N, batch.tgt_len_B.tolist()), strict=True):
            found[row] = nll_T
    return found


def mean_loss(losses: Sequence[Tensor]) -> float:
    """Over all pieces of all pairs; NaN where there are none."""
    return float(torch.cat([torch.empty(0), *losses]).mean(dtype=torch.float64))


def attention_maps(
    model: Seq2Seq, tokenizer: Tokenizer, sources: Rows, targets: Pieces, batch_tokens: int
) -> list[Tensor]:
    """For each pair the weights (target pieces, source pieces) of every step, both with the end of sentence."""
    found: list[Tensor] = [torch.empty(0)] * len(sources)
    for rows, batch in _batches(model, tokenizer, sources, targets, batch_tokens):
        _, weights_BTS = model(batch)
        for row, weights_TS, target, source in zip(
            rows, weights_BTS.float().cpu(), batch.tgt_len_B.tolist(), batch.src_len_B.tolist(), strict=True
        ):
            found[row] = weights_TS[:target, :source].clone()
    return found


def _batches(
    model: Seq2Seq, tokenizer: Tokenizer, sources: Rows, targets: Pieces, batch_tokens: int
) -> Iterator[tuple[list[int], Batch]]:
    """Rows and batches, with the model in evaluation mode meanwhile."""
    sides = ((tokenizer.source, sources), (tokenizer.target, targets))
    src_len, tgt_len = (side.positions(torch.tensor([len(row) for row in rows])) for side, rows in sides)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for rows in plan_batches(torch.arange(len(sources)), src_len, tgt_len, batch_tokens):
                chosen = rows.tolist()
                batch = make_batch([sources[row] for row in chosen], [targets[row] for row in chosen], tokenizer)
                yield chosen, batch.to(device)
    finally:
        model.train(was_training)
