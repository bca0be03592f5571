"""Batches of about equal numbers of tokens, from sentences of about equal length, in an order that a seed decides.

Shapes: B batch, S source length, T target length, F width of a feature vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2s_cli.config import SamplingConfig
from s2s_cli.data.corpus import Corpus
from s2s_cli.data.features import FeatureSequences
from s2s_cli.data.sequences import Sequences, pad_rows, whichever
from s2s_cli.data.shares import divide, parts_of_batch
from s2s_cli.data.tokenizer import Tokenizer

POOL_PAIRS = 2**20
MUCH_LONGER = 2
"""Sources of so many times their targets' tokens are what batches are sorted by: theirs is the padding that costs."""


@dataclass(frozen=True)
class Batch:
    """Pairs, padded at the end; every source of text and every target output ends with the end-of-sentence piece."""

    src_BS: Tensor | None
    """Piece ids; None where the sources are feature vectors."""
    src_len_B: Tensor
    tgt_in_BT: Tensor
    tgt_out_BT: Tensor
    tgt_len_B: Tensor
    src_BSF: Tensor | None = None
    """Feature vectors; None where the sources are text."""

    @property
    def source(self) -> Tensor:
        """Piece ids (B, S), or feature vectors (B, S, F)."""
        return whichever(self.src_BS, self.src_BSF)

    @property
    def tokens(self) -> int:
        """Target pieces, the ends of sentences included and padding left out."""
        return int(self.tgt_len_B.sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        tensors = {name: tensor for name, tensor in vars(self).items() if tensor is not None}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


def make_batch(sources: Sequence[Any], targets: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Batch:
    """Adds the special pieces and pads.

    Args:
        sources: rows as the tokenizer's source side encodes them.
        targets: ids.
        tokenizer: has the special pieces.
    """
    src, tgt = tokenizer.source.pad(sources), tokenizer.target.specials
    tgt_in_BT, tgt_len_B = pad_rows([[tgt.bos, *row] for row in targets], tgt.pad)
    tgt_out_BT, _ = pad_rows([[*row, tgt.eos] for row in targets], tgt.pad)
    return Batch(src.src_BS, src.src_len_B, tgt_in_BT, tgt_out_BT, tgt_len_B, src.src_BSF)


Row = Callable[[int], Any]
"""Gives the row of one pair of a batch, by its place there."""


class _Planned(NamedTuple):
    """A batch that is not yet divided and padded."""

    src_len: Tensor
    """Tokens of each pair on either side, as they stand in a batch."""
    tgt_len: Tensor
    sources: list[Row]
    """For each pass."""
    targets: Row


class Share(NamedTuple):
    """What one worker does of an update."""

    batches: list[Batch]
    tokens: int
    """Target pieces of all workers, the ends of sentences included."""


def plan_batches(order: Tensor, src_len: Tensor, tgt_len: Tensor, batch_tokens: int) -> list[Tensor]:
    """Cuts a corpus into batches that hold at most `batch_tokens` tokens on either side, padding included.

    Args:
        order: the pairs in random order (N,); it decides which pairs of equal length meet.
        src_len, tgt_len: their tokens (N,).
        batch_tokens: the budget. A single pair that exceeds it makes a batch of its own.

    Returns:
        The indices of each batch, shortest batches first.
    """
    first, second = (src_len, tgt_len) if src_len.sum() > MUCH_LONGER * tgt_len.sum() else (tgt_len, src_len)
    widest = int(second.max()) + 1 if len(second) else 1
    by_length = torch.argsort(first * widest + second, stable=True)
    order, lengths = order[by_length], zip(src_len[by_length].tolist(), tgt_len[by_length].tolist(), strict=True)
    batches, start, src_width, tgt_width = [], 0, 0, 0
    for position, (source, target) in enumerate(lengths):
        src_width, tgt_width = max(src_width, source), max(tgt_width, target)
        if position > start and (position - start + 1) * max(src_width, tgt_width) > batch_tokens:
            batches.append(order[start:position])
            start, src_width, tgt_width = position, source, target
    if start < len(order):
        batches.append(order[start:])
    return batches


class Sampler:
    """The training batches, epoch after epoch.

    The batches of an epoch are a function of the seed and the epoch alone, so the position (`state`) is a few numbers.
    The epoch's random order is cut into pools, one planned at a time, so that a large corpus costs little memory.

    Where a batch goes through the model twice, it has all pairs twice, one copy after the other. Of sources that are
    sampled, the first copy then has the usual segmentation and the last a drawn one, so that what the two passes say of
    them should agree (Wang et al. 2021, Multi-view Subword Regularization); the targets of both are the same.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        batch_tokens: int,
        seed: int,
        sampling: SamplingConfig | None = None,
        passes: int = 1,
    ) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._passes = passes
        self._sampling = sampling if sampling and sampling.alpha else None
        if self._sampling:  # a model that cannot sample is refused now, not in the midst of training
            tokenizer.check_sampling(self._sampling)
        self._start_epoch(0)

    @property
    def epoch(self) -> int:
        """Epochs completed, from 0."""
        return self._epoch

    @property
    def progress(self) -> float:
        """Share of the present epoch that was given out, from 0 to 1."""
        in_pool = len(self._order[self._pool * POOL_PAIRS :][:POOL_PAIRS])
        return (self._pool * POOL_PAIRS + in_pool * self._index / len(self._plan)) / len(self._order)

    @property
    def state(self) -> dict[str, int]:
        """The position: give it to `restore` to go on with the very next batch."""
        return {"epoch": self._epoch, "pool": self._pool, "index": self._index}

    def restore(self, state: dict[str, int]) -> None:
        """Moves to a position."""
        self._start_epoch(state["epoch"], state.get("pool", 0), state["index"])

    def _start_epoch(self, epoch: int, pool: int = 0, index: int = 0) -> None:
        self._epoch = epoch
        self._generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        self._order = torch.randperm(len(self._corpus), generator=self._generator)
        if self._corpus.mixture:
            self._order = self._corpus.mixture.rows(self._seed, epoch)[self._order]
        self._start_pool(pool, index)

    def _start_pool(self, pool: int, index: int) -> None:
        if pool:  # the first goes on with the epoch's generator
            self._generator.manual_seed(self._seed * 1_000_003 + self._epoch + pool * 4_256_233)
        rows = self._order[pool * POOL_PAIRS : (pool + 1) * POOL_PAIRS]
        source, target = self._tokenizer.source, self._tokenizer.target
        src_len = source.positions(self._corpus.source.lengths(rows))
        tgt_len = target.positions(self._corpus.target.lengths(rows))
        plan = plan_batches(rows, src_len, tgt_len, self._batch_tokens)
        self._plan = [plan[i] for i in torch.randperm(len(plan), generator=self._generator).tolist()]
        self._pool, self._index = pool, index

    def next(self) -> Batch:
        """The next batch; a new epoch begins when the last batch of one was given out."""
        return self.share(1).batches[0]

    def share(self, batches: int, worker: int = 0, workers: int = 1) -> Share:
        """What one worker does of the next batches; all workers move on by them.

        Each batch is divided into the fewest parts with which all workers have equally many. Of a batch with fewer
        pairs than parts, some parts have a source without target pieces, so that each worker has a gradient.
        """
        mine, tokens, parts = list[Batch](), 0, parts_of_batch(batches, workers)
        for first in range(0, batches * parts, parts):
            planned = self._take()
            tokens += int(planned.tgt_len.sum())
            for part, chosen in enumerate(divide(planned.src_len + planned.tgt_len, parts), first):
                if part % workers == worker:
                    rows = chosen.tolist()
                    sources = [source(place) for source in planned.sources for place in rows or [0]]
                    targets = [planned.targets(place) for place in rows or [0]] * self._passes
                    batch = make_batch(sources, targets, self._tokenizer)
                    mine.append(batch if rows else replace(batch, tgt_len_B=torch.zeros_like(batch.tgt_len_B)))
        return Share(mine, tokens)

    def _take(self) -> _Planned:
        """The next batch, and moves on."""
        rows = self._plan[self._index]
        seed = (self._seed * 7_919 + self._epoch * 104_729 + self._pool * 1_299_709 + self._index) % 2**31
        self._index += 1
        if self._index == len(self._plan):
            if (self._pool + 1) * POOL_PAIRS < len(self._order):
                self._start_pool(self._pool + 1, 0)
            else:
                self._start_epoch(self._epoch + 1)
        corpus, sampling, numbers = self._corpus, self._sampling, rows.tolist()
        source, target = self._tokenizer.source, self._tokenizer.target

        def stored(side: Sequences | FeatureSequences) -> Row:  # a worker reads its own part of a batch alone
            return lambda place: side.rows([numbers[place]])[0]

        sources, targets = [stored(corpus.source)] * self._passes, stored(corpus.target)
        src_len, tgt_len = corpus.source.lengths(rows), corpus.target.lengths(rows)
        # All of a batch is drawn, so that what is drawn does not depend on how it is divided.
        if sampling and corpus.texts and sampling.sides != "target":
            drawn = source.sample([corpus.texts[0][row] for row in numbers], sampling, 2 * seed)
            sources[-1], src_len = drawn.__getitem__, torch.tensor([len(row) for row in drawn])
        if sampling and corpus.texts and sampling.sides != "source":
            drawn = target.sample([corpus.texts[1][row] for row in numbers], sampling, 2 * seed + 1)
            targets, tgt_len = drawn.__getitem__, torch.tensor([len(row) for row in drawn])
        return _Planned(source.positions(src_len), target.positions(tgt_len), sources, targets)
